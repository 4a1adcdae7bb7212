"""From a loaded model to a tier that answers right: as known from an earlier run, else by trials.

    known for these circumstances?  ── yes ──>  built as it was found
              └── no ──>  slots  >  cohort  >  generate  ──>  kept for the next run

Knows nothing of requests or budgets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch

from batchgen.engines.torch.capacity import packable_bytes
from batchgen.engines.torch.continuous.forward.linear import should_pack_weights
from batchgen.engines.torch.continuous.kv_store import KVLayer, KVStore, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.workers import LogitsSpec
from batchgen.engines.torch.memory import cache_numbers, weight_bytes
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.model_files import ModelFiles
from batchgen.engines.torch.select.batch_invariance import BatchInvariance, probe_batch_invariance
from batchgen.engines.torch.select.continuous_probe import (
    ProbedForward,
    UnsupportedForward,
    forward_named,
    probe_continuous,
)
from batchgen.engines.torch.select.environment import ComputeSettings, environment_key
from batchgen.engines.torch.select.parity_probe import TierChoice, probe_tiers, tier_choice_named
from batchgen.engines.torch.select.tier_cache import LayerShape, TierCache, TierRecord
from batchgen.storage.cache_folder import cache_folder

FastTier = Literal["slots", "cohort"]
_NOT_PROBED = BatchInvariance([], [])
_SMALLEST_STORE = KVStoreSizes(pages=1, page_size=1, arena=0)


@dataclass(frozen=True, slots=True)
class SelectedTier:
    """A tier that may answer.

    Attributes:
        finding: what is known of it.
        runs: what it is made of.
        known: whether an earlier run had found it.
    """

    finding: TierRecord
    runs: ProbedForward | TierChoice
    known: bool

    def facts(self) -> Mapping[str, object]:
        """For the manifest."""
        return {
            "tier": self.finding.tier,
            "tier_reason": self.finding.reason,
            "tier_probed_at": self.finding.tried_at,
            "batch_invariant": self.finding.independent,
            "batch_invariant_reason": self.finding.independent_reason,
        }


def select_tier(loaded: LoadedModel, fastest: FastTier, free_bytes: int) -> SelectedTier:
    """The fastest tier that answers as `generate` does on each row alone.

    Args:
        loaded: the model; without files of its own, nothing is known of it and nothing kept.
        fastest: where the search begins.
        free_bytes: beside the weights.

    Raises:
        ModelError: the model cannot generate at all.
        ResourceError: a few short prompts do not fit in memory.
    """
    room = packable_bytes(free_bytes)
    files = loaded.files
    if files is None or files.spec.trust_remote_code:
        # A model's own code may come from anywhere, and do anything.
        return _probe_tiers(loaded, fastest, room)
    packed = should_pack_weights(weight_bytes(loaded.model), loaded.device, loaded.dtype, room)
    now = environment_key(files, ComputeSettings(loaded.device, loaded.dtype, packed, fastest))
    verdicts = TierCache(_folder())
    known = verdicts.known(now)
    if known is not None and (ready := _restore_tier(loaded, known, room)):
        return ready
    ready = _probe_tiers(loaded, fastest, room)
    if files.unchanged():
        verdicts.keep(now, ready.finding)
    return ready


def cached_tier_record(files: ModelFiles, computing: ComputeSettings) -> TierRecord | None:
    """What an earlier run found out about a model that is not loaded; None if there was none."""
    if files.spec.trust_remote_code:
        return None
    return TierCache(_folder()).known(environment_key(files, computing))


def _folder() -> Path:
    return cache_folder() / "verdicts"


def _probe_tiers(loaded: LoadedModel, fastest: FastTier, room: int) -> SelectedTier:
    found = (
        probe_continuous(loaded, room)
        if fastest == "slots"
        else UnsupportedForward("slots: not tried")
    )
    if isinstance(found, ProbedForward):
        same = probe_batch_invariance(found.forward, found.store, found.logits, loaded.device)
        return SelectedTier(_finding(loaded, found, found.reason, same), found, known=False)
    verdict = probe_tiers(loaded)
    reason = f"{found.reason}; {verdict.reason}"
    return SelectedTier(_finding(loaded, verdict, reason, _NOT_PROBED), verdict, known=False)


def _finding(
    loaded: LoadedModel, runs: ProbedForward | TierChoice, reason: str, same: BatchInvariance
) -> TierRecord:
    numbers = cache_numbers(loaded.model, loaded.model.config)
    return TierRecord(
        tier=runs.name,
        reason=reason,
        layers=_shapes(runs.store) if isinstance(runs, ProbedForward) else (),
        vocab=runs.logits.vocab if isinstance(runs, ProbedForward) else 0,
        cache_per_token=numbers.per_token,
        cache_per_row=numbers.per_row,
        independent=same.holds,
        independent_reason=same.reason,
        tried_at=TierRecord.now(),
    )


def _shapes(store: KVStore) -> tuple[LayerShape, ...]:
    return tuple(
        LayerShape(
            number,
            layer.prefix_keys.shape[0],
            layer.prefix_keys.shape[2],
            layer.prefix_values.shape[2],
            cast(Literal["float32"], str(layer.prefix_keys.dtype).removeprefix("torch.")),
        )
        for number, layer in store.layers.items()
    )


def _restore_tier(loaded: LoadedModel, finding: TierRecord, room: int) -> SelectedTier | None:
    """A tier as it was found; None if it cannot be made."""
    if not finding.layers:
        verdict = tier_choice_named(loaded, finding.tier, finding.reason)
        return SelectedTier(finding, verdict, known=True) if verdict else None
    forward = forward_named(loaded, finding.tier, room)
    if forward is None:
        return None
    store = KVStore(_SMALLEST_STORE, private_zeros)
    for shape in finding.layers:
        store.layers[shape.number] = _layer(shape, loaded.device)
    logits = LogitsSpec(finding.vocab, loaded.dtype)
    return SelectedTier(
        finding, ProbedForward(forward, store, logits, finding.tier, finding.reason), known=True
    )


def _layer(shape: LayerShape, device: torch.device) -> KVLayer:
    dtype: torch.dtype = getattr(torch, shape.dtype)
    keys = torch.empty(0, shape.heads, shape.key_width, dtype=dtype, device=device)
    values = torch.empty(0, shape.heads, shape.value_width, dtype=dtype, device=device)
    return KVLayer.like(keys, values, _SMALLEST_STORE, private_zeros)
