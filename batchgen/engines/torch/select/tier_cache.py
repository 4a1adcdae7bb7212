"""Results of tier selection, kept between runs: one small JSON file for each model and environment.

A result that does not fit is harmless: the tier is checked with one prompt before it is used.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from batchgen.engines.torch.model_files import ModelFiles
from batchgen.storage.durable import write_durably

MOST_FILES = 100
"""The oldest are deleted first."""


@dataclass(frozen=True, slots=True)
class ComputeSettings:
    """How a model is computed: with `packed` weights or not, and the `fastest` tier to search from."""

    device: torch.device
    dtype: torch.dtype
    packed: bool
    fastest: str


def environment_key(files: ModelFiles, settings: ComputeSettings) -> Mapping[str, str]:
    """The facts that identify a model and its environment; needs no weights, so that `plan` can use it."""
    device = settings.device
    kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    if device.type == "cuda":  # Was never run on a GPU.
        kind = str(torch.cuda.get_device_properties(device))
    return {
        "model": f"{files.listing}, attention {files.spec.attn_implementation}",
        "versions": ", ".join(
            f"{name} {_version(name)}" for name in ("batchgen", "torch", "transformers", "numba")
        ),
        "device": f"{device}, {kind}, {torch.get_num_threads()} threads",
        "settings": f"{settings.dtype}, packed {settings.packed}, from {settings.fastest}",
    }


@dataclass(frozen=True, slots=True)
class TierRecord:
    """The result of a tier selection.

    Attributes:
        reason: its difference from `generate`, and why faster tiers were rejected.
        batch_invariant: whether a row's logits were bit-identical in all tested batch compositions.
        batch_invariant_reason: the compositions tested.
        probed_at: date and time in UTC.
    """

    tier: str
    reason: str
    batch_invariant: bool
    batch_invariant_reason: str
    probed_at: str


@dataclass(frozen=True, slots=True)
class _Content:
    key: Mapping[str, str]
    record: TierRecord


_CONTENT = TypeAdapter(_Content)


@dataclass(frozen=True, slots=True)
class TierCache:
    """Records in a folder, which may be deleted at any time; it is created with the first record."""

    folder: Path

    def get(self, key: Mapping[str, str]) -> TierRecord | None:
        """The record of exactly this key; None if there is none, or its file cannot be read."""
        try:
            content = _CONTENT.validate_json(self._file(key).read_bytes(), strict=True)
        except (OSError, ValidationError):
            return None
        return content.record if dict(content.key) == dict(key) else None

    def put(self, key: Mapping[str, str], record: TierRecord) -> None:
        """Write a record. If that fails, the next run selects a tier again."""
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = _CONTENT.dump_json(_Content(key, record), indent=1)
            write_durably(self._file(key), text, scratch=self.folder)
            files = sorted(self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
            for file in files[:-MOST_FILES]:
                file.unlink(missing_ok=True)

    def _file(self, key: Mapping[str, str]) -> Path:
        text = json.dumps(dict(key), sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
