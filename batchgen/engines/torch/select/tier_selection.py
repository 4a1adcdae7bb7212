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

from batchgen.engines.torch.capacity import packed_room
from batchgen.engines.torch.continuous.forward.linear import packs
from batchgen.engines.torch.continuous.kv_store import Layer, Sizes, Store, own_zeros
from batchgen.engines.torch.continuous.workers import Wide
from batchgen.engines.torch.memory import cache_numbers, weight_bytes
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.model_files import ModelFiles
from batchgen.engines.torch.select.batch_invariance import Independence, batch_independence
from batchgen.engines.torch.select.continuous_probe import Found, Refused, forward_named, try_slots
from batchgen.engines.torch.select.environment import Computing, circumstances
from batchgen.engines.torch.select.parity_probe import Verdict, probe, verdict_named
from batchgen.engines.torch.select.tier_cache import Finding, LayerShape, Verdicts
from batchgen.storage.cache_folder import cache_folder

Fastest = Literal["slots", "cohort"]
_NOT_TRIED = Independence([], [])
_NO_ROOM = Sizes(pages=1, page_size=1, arena=0)


@dataclass(frozen=True, slots=True)
class Ready:
    """A tier that may answer.

    Attributes:
        finding: what is known of it.
        runs: what it is made of.
        known: whether an earlier run had found it.
    """

    finding: Finding
    runs: Found | Verdict
    known: bool

    def facts(self) -> Mapping[str, object]:
        """For the manifest."""
        return {
            "tier": self.finding.tier,
            "tier_reason": self.finding.reason,
            "tier_tried_at": self.finding.tried_at,
            "batch_independent": self.finding.independent,
            "batch_independent_reason": self.finding.independent_reason,
        }


def find_tier(loaded: LoadedModel, fastest: Fastest, free_bytes: int) -> Ready:
    """The fastest tier that answers as `generate` does on each row alone.

    Args:
        loaded: the model; without files of its own, nothing is known of it and nothing kept.
        fastest: where the search begins.
        free_bytes: beside the weights.

    Raises:
        ModelError: the model cannot generate at all.
        ResourceError: a few short prompts do not fit in memory.
    """
    room = packed_room(free_bytes)
    files = loaded.files
    if files is None or files.spec.trust_remote_code:
        # A model's own code may come from anywhere, and do anything.
        return _tried(loaded, fastest, room)
    packed = packs(weight_bytes(loaded.model), loaded.device, loaded.dtype, room)
    now = circumstances(files, Computing(loaded.device, loaded.dtype, packed, fastest))
    verdicts = Verdicts(_folder())
    known = verdicts.known(now)
    if known is not None and (ready := _again(loaded, known, room)):
        return ready
    ready = _tried(loaded, fastest, room)
    if files.unchanged():
        verdicts.keep(now, ready.finding)
    return ready


def known_finding(files: ModelFiles, computing: Computing) -> Finding | None:
    """What an earlier run found out about a model that is not loaded; None if there was none."""
    if files.spec.trust_remote_code:
        return None
    return Verdicts(_folder()).known(circumstances(files, computing))


def _folder() -> Path:
    return cache_folder() / "verdicts"


def _tried(loaded: LoadedModel, fastest: Fastest, room: int) -> Ready:
    found = try_slots(loaded, room) if fastest == "slots" else Refused("slots: not tried")
    if isinstance(found, Found):
        same = batch_independence(found.forward, found.store, found.logits, loaded.device)
        return Ready(_finding(loaded, found, found.reason, same), found, known=False)
    verdict = probe(loaded)
    reason = f"{found.reason}; {verdict.reason}"
    return Ready(_finding(loaded, verdict, reason, _NOT_TRIED), verdict, known=False)


def _finding(
    loaded: LoadedModel, runs: Found | Verdict, reason: str, same: Independence
) -> Finding:
    numbers = cache_numbers(loaded.model, loaded.model.config)
    return Finding(
        tier=runs.name,
        reason=reason,
        layers=_shapes(runs.store) if isinstance(runs, Found) else (),
        vocab=runs.logits.vocab if isinstance(runs, Found) else 0,
        cache_per_token=numbers.per_token,
        cache_per_row=numbers.per_row,
        independent=same.holds,
        independent_reason=same.reason,
        tried_at=Finding.now(),
    )


def _shapes(store: Store) -> tuple[LayerShape, ...]:
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


def _again(loaded: LoadedModel, finding: Finding, room: int) -> Ready | None:
    """A tier as it was found; None if it cannot be made."""
    if not finding.layers:
        verdict = verdict_named(loaded, finding.tier, finding.reason)
        return Ready(finding, verdict, known=True) if verdict else None
    forward = forward_named(loaded, finding.tier, room)
    if forward is None:
        return None
    store = Store(_NO_ROOM, own_zeros)
    for shape in finding.layers:
        store.layers[shape.number] = _layer(shape, loaded.device)
    logits = Wide(finding.vocab, loaded.dtype)
    return Ready(finding, Found(forward, store, logits, finding.tier, finding.reason), known=True)


def _layer(shape: LayerShape, device: torch.device) -> Layer:
    dtype: torch.dtype = getattr(torch, shape.dtype)
    keys = torch.empty(0, shape.heads, shape.key_width, dtype=dtype, device=device)
    values = torch.empty(0, shape.heads, shape.value_width, dtype=dtype, device=device)
    return Layer.like(keys, values, _NO_ROOM, own_zeros)
