"""Selects the tier of a loaded model: the fastest one whose logits match those of `generate`.

in the cache?  ── yes ──>  checked with one prompt  ── matches ──>  used
      └── no               └── differs ──┐
           └─────────────────────────────┴──>  continuous  >  static  >  generate  ──>  kept in the cache
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from batchgen.engines.torch.capacity import packable_bytes
from batchgen.engines.torch.continuous.forward.linear import should_pack_weights
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
    TierCache,
    TierRecord,
    environment_key,
)
from batchgen.storage.cache_folder import cache_folder

FastTier = Literal["continuous", "static"]


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
            "tier_probed_at": self.record.probed_at,
            "batch_invariant": self.record.batch_invariant,
            "batch_invariant_reason": self.record.batch_invariant_reason,
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
    packed = should_pack_weights(weight_bytes(loaded.model), loaded.device, loaded.dtype, packable)
    key = environment_key(files, ComputeSettings(loaded.device, loaded.dtype, packed, fastest))
    record = _cache().get(key)
    if record is not None and (probed := _checked(loaded, record, packable)):
        return SelectedTier(record, probed, from_cache=True)
    selected = _probed(loaded, fastest, packable)
    if files.unchanged():
        _cache().put(key, selected.record)
    return selected


def cached_tier(files: ModelFiles, settings: ComputeSettings) -> TierRecord | None:
    """The record of an earlier run for a model that is not loaded; None if there is none."""
    if files.spec.trust_remote_code:
        return None
    return _cache().get(environment_key(files, settings))


def _cache() -> TierCache:
    return TierCache(cache_folder() / "tiers")


def _checked(
    loaded: LoadedModel, record: TierRecord, packable: int
) -> ProbedForward | TierChoice | None:
    if not record.tier.startswith("continuous"):
        return check_choice(loaded, record.tier)
    probed = probe_continuous(loaded, packable, only=record.tier)
    return probed if isinstance(probed, ProbedForward) else None


def _probed(loaded: LoadedModel, fastest: FastTier, packable: int) -> SelectedTier:
    probed: ProbedForward | UnsupportedForward = UnsupportedForward("continuous: not tried")
    if fastest == "continuous":
        probed = probe_continuous(loaded, packable)
    if isinstance(probed, ProbedForward):
        invariance = probe_batch_invariance(
            probed.forward, probed.store, probed.logits, loaded.device
        )
        return SelectedTier(_record(probed, probed.reason, invariance), probed, from_cache=False)
    choice = probe_tiers(loaded)
    record = _record(choice, f"{probed.reason}; {choice.reason}", BatchInvariance([], []))
    return SelectedTier(record, choice, from_cache=False)


def _record(
    probed: ProbedForward | TierChoice, reason: str, invariance: BatchInvariance
) -> TierRecord:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return TierRecord(probed.name, reason, invariance.holds, invariance.reason, now)
