"""Results of tier selection, kept between runs for each model and environment.

A result that does not fit is harmless: the tier is checked with one prompt before it is used.
"""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from pydantic import TypeAdapter

from batchgen.engines.torch.continuous.forward.products.linear import Packing
from batchgen.engines.torch.model_files import ModelFiles
from batchgen.storage.record_cache import KeyedRecord, RecordCache

REJECTED = "not "
"""How the reason against a tier begins."""


@dataclass(frozen=True, slots=True)
class ComputeSettings:
    """How a model is computed: with a packed copy of its weights or not, and the `fastest` tier to search from."""

    device: torch.device
    dtype: torch.dtype
    packing: Packing | None
    fastest: str


def environment_key(files: ModelFiles, settings: ComputeSettings) -> Mapping[str, str]:
    """The facts that identify a model and its environment; needs no weights, so that `plan` can use it."""
    device = settings.device
    packed = settings.packing.dtype if settings.packing else None
    kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    if device.type == "cuda":  # Was never run on a GPU.
        kind = str(torch.cuda.get_device_properties(device))
    return {
        "model": f"{files.listing}, attention {files.spec.attn_implementation}",
        "versions": ", ".join(
            f"{name} {_version(name)}" for name in ("torch", "transformers", "numba")
        ),
        "engine": engine_sources(Path(__file__).parent.parent),
        "device": f"{device}, {kind}, {torch.get_num_threads()} threads",
        "settings": f"{settings.dtype}, packed {packed}, from {settings.fastest}",
    }


@cache
def engine_sources(folder: Path) -> str:
    """Hash of the Python files below `folder`: an update of a checkout changes the engine, but not the version."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(b"%s\0%s\0" % (bytes(file.relative_to(folder)), file.read_bytes()))
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class TierRecord:
    """The result of a tier selection.

    Attributes:
        reason: its difference from `generate`, and why faster tiers were rejected.
        batch_invariant: whether a row's logits were bit-identical in all tested batch compositions.
        batch_invariant_reason: the compositions tested.
        probed_at: date and time in UTC.
        split_invariant: whether they were in those that differ as a split step does from one that is not.
        row_counts: at which products are computed so that a row's bits do not depend on the batch; empty for any.
        cuts: see `StepLimits`.
        kernels: of `kernel_facts`, with which this was probed; None for padded batches.
    """

    tier: str
    reason: str
    batch_invariant: bool
    batch_invariant_reason: str
    probed_at: str
    row_counts: tuple[int, ...] = ()
    split_invariant: bool = False
    cuts: int = 1
    kernels: Mapping[str, str] | None = None

    @property
    def fallback(self) -> str:
        """Which faster tiers were rejected, and why; empty if none was."""
        parts = self.reason.split("; ")
        return "; ".join(part for part in parts if part.startswith(REJECTED))


def tier_cache(folder: Path) -> RecordCache[TierRecord]:
    """The records in a folder."""
    return RecordCache(folder, _CONTENT)


_CONTENT = TypeAdapter(KeyedRecord[TierRecord])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
