"""Selects the tier of a loaded model: the fastest one whose logits match those of `generate`.

in the cache?  ── yes ──>  checked with one prompt  ── matches ──>  used
      └── no               └── differs ──┐
           └─────────────────────────────┴──>  continuous  >  static  >  generate  ──>  kept in the cache
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import torch

from batchgen.engines.torch.capacity import packable_bytes
from batchgen.engines.torch.continuous.forward.kernel_check import kernel_facts
from batchgen.engines.torch.continuous.forward.products.linear import choose_packing
from batchgen.engines.torch.memory import weight_bytes
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.model_files import ModelFiles
from batchgen.engines.torch.select.batch_invariance import BatchInvariance, probe_batch_invariance
from batchgen.engines.torch.select.continuous_probe import (
    ProbedForward,
    UnsupportedForward,
    probe_continuous,
)
from batchgen.engines.torch.select.parity_probe import TierChoice, check_choice, probe_tiers
from batchgen.engines.torch.select.tier_cache import (
    ComputeSettings,
    TierRecord,
    environment_key,
    tier_cache,
)
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.processes import one_process_at_a_time
from batchgen.storage.record_cache import RecordCache

FastTier = Literal["continuous", "static"]

_HALF_CUTS = 512
"""Where the steps of a bfloat16 prompt change bits: as few cuts as possible, and prompts that fill a step without much space left."""


@dataclass(frozen=True, slots=True)
class SelectedTier:
    """A tier that matches `generate`; `from_cache`: the record is that of an earlier run."""

    record: TierRecord
    probe_result: ProbedForward | TierChoice
    from_cache: bool

    def facts(self) -> Mapping[str, object]:
        return {
            "tier": self.record.tier,
            "tier_reason": self.record.reason,
            "tier_fallback": self.record.fallback,
            "tier_probed_at": self.record.probed_at,
            "batch_invariant": self.record.batch_invariant,
            "batch_invariant_reason": self.record.batch_invariant_reason,
            "row_counts": list(self.record.row_counts),
        }


def select_tier(loaded: LoadedModel, fastest: FastTier, free_bytes: int) -> SelectedTier:
    """The first tier, from `fastest` on, whose logits match those of `generate` on each row alone.

    `free_bytes`: free memory besides the weights.

    Raises:
        ModelError: the model cannot generate at all.
        ResourceError: a few short prompts do not fit in memory.
    """
    packable = packable_bytes(free_bytes)
    files = loaded.files
    if files is None or files.spec.trust_remote_code:
        # The code of such a model may come from anywhere: its files do not identify it.
        return _probed(loaded, fastest, packable)
    packing = choose_packing(weight_bytes(loaded.model), loaded.device, loaded.dtype, packable)
    key = environment_key(files, ComputeSettings(loaded.device, loaded.dtype, packing, fastest))
    record = _cache().get(key)
    if record is None:
        # Runs that start at the same time wait for the first one's result.
        with one_process_at_a_time(_cache().lock(key)):
            record = _cache().get(key)
            if record is None:
                return _probed_and_kept(loaded, fastest, packable, key)
    if probed := _checked(loaded, record, packable):
        return SelectedTier(record, probed, from_cache=True)
    return _probed_and_kept(loaded, fastest, packable, key)


def cached_tier(files: ModelFiles, settings: ComputeSettings) -> TierRecord | None:
    """The record of an earlier run for a model that is not loaded; None if there is none."""
    if files.spec.trust_remote_code:
        return None
    return _cache().get(environment_key(files, settings))


def _cache() -> RecordCache[TierRecord]:
    return tier_cache(cache_folder() / "tiers")


def _probed_and_kept(
    loaded: LoadedModel, fastest: FastTier, packable: int, key: Mapping[str, str]
) -> SelectedTier:
    selected = _probed(loaded, fastest, packable)
    if loaded.files is not None and loaded.files.unchanged():
        _cache().put(key, selected.record)
    return selected


def _checked(
    loaded: LoadedModel, record: TierRecord, packable: int
) -> ProbedForward | TierChoice | None:
    if not record.tier.startswith("continuous"):
        return check_choice(loaded, record.tier)
    probed = probe_continuous(loaded, packable, cached=record)
    # Without a kernel, or with one more, attention rounds differently.
    same = record.kernels == _kernels(loaded)
    return probed if isinstance(probed, ProbedForward) and same else None


def _probed(loaded: LoadedModel, fastest: FastTier, packable: int) -> SelectedTier:
    probed: ProbedForward | UnsupportedForward = UnsupportedForward("continuous: not tried")
    if fastest == "continuous":
        probed = probe_continuous(loaded, packable)
    if isinstance(probed, ProbedForward):
        invariance, cuts = _invariance(probed, loaded)
        record = _record(probed, probed.reason, invariance)
        record = replace(record, kernels=_kernels(loaded), cuts=cuts)
        return SelectedTier(record, probed, from_cache=False)
    choice = probe_tiers(loaded)
    record = _record(choice, f"{probed.reason}; {choice.reason}", BatchInvariance([], []))
    return SelectedTier(record, choice, from_cache=False)


def _invariance(probed: ProbedForward, loaded: LoadedModel) -> tuple[BatchInvariance, int]:
    """Batch invariance, and the tokens after which prompts are cut: anywhere, unless that could change more than last bits of float32."""

    def probe(cuts: int) -> BatchInvariance:
        where = probed.forward, probed.store, probed.logits, loaded.device
        return probe_batch_invariance(*where, cuts=cuts)

    found = probe(1)
    if found.holds or loaded.dtype != torch.bfloat16:
        return found, 1
    return probe(_HALF_CUTS), _HALF_CUTS


def _record(
    probed: ProbedForward | TierChoice, reason: str, invariance: BatchInvariance
) -> TierRecord:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    counts = probed.row_counts if isinstance(probed, ProbedForward) else ()
    return TierRecord(
        probed.name,
        reason,
        invariance.holds,
        invariance.reason,
        now,
        counts,
        split_invariant=invariance.holds_for_splits,
    )


def _kernels(loaded: LoadedModel) -> Mapping[str, str]:
    return dict(kernel_facts(next(loaded.model.parameters())))
