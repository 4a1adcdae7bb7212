"""The lock file of a job: commit of each model, and size and SHA-256 of each of its files.

    job.yaml
    job.lock.json    {"format": 1, "models": {NAME: {"source", "revision", "files": {FILE: {"bytes", "sha256"}}}}}

Models are listed by their names in the job, folders by their paths relative to the lock file. The lock file is made to
be committed with the job.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from batchgen.errors import ModelError
from batchgen.models.find_model import ModelSource, ResolvedModel
from batchgen.models.remote_code import COMMIT
from batchgen.storage.durable import disk_errors, write_durably
from batchgen.storage.entries import exists, is_file
from batchgen.storage.json_file import read_json

FORMAT = 1
READ_BY_LOADERS = (".safetensors", ".json", ".jinja", ".py", ".model", ".tiktoken", ".txt")
"""An unpinned file of one of these types may change the answers."""
_SHOWN = 5

FileHasher = Callable[[Path], str]
"""SHA-256 of a file, in hex."""


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """Size and digest of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Pin:
    """The pinned state of a model.

    Attributes:
        source: "hub" also if it was found in the cache.
        revision: as in `ResolvedModel`.
        files: by path relative to the model's folder, with `/`.
    """

    source: ModelSource
    revision: str
    files: Mapping[str, PinnedFile]

    @property
    def bytes(self) -> int:
        """The sum of all files."""
        return sum(file.bytes for file in self.files.values())


@dataclass(frozen=True, slots=True)
class ModelLock:
    """The content of a lock file."""

    path: Path
    models: Mapping[str, Pin] = field(default_factory=dict)

    def key(self, name: str, own_path: Path | None) -> str:
        """The model's name in the lock file; for a folder or a GGUF file its relative path."""
        if own_path is None:
            return name
        relative = Path(os.path.relpath(own_path, self.path.parent)).as_posix()
        return relative if relative.startswith(".") else f"./{relative}"

    def require(self, key: str) -> Pin:
        """The pin of a model; raises ModelError without one."""
        if key not in self.models:
            raise ModelError(
                f"{self.path} does not pin {key}; it pins {', '.join(self.models) or 'nothing'}",
                hint="Pin it: `batchgen models pin JOB`, with the options of this command.",
            )
        return self.models[key]

    def key_of(self, model: ResolvedModel) -> str:
        """As `key`."""
        return self.key(model.name, model.own_path)

    def revision(self, name: str, requested: str | None) -> str | None:
        """The pinned commit of a hub model; `requested` if it is not pinned.

        Raises:
            ModelError: `requested` is another commit.
        """
        pin = self.models.get(name)
        if pin is None or pin.source != "hub":
            return requested
        if requested is not None and COMMIT.fullmatch(requested) and requested != pin.revision:
            raise ModelError(
                f"revision {requested} is set, but {self.path} pins {name} at {pin.revision}",
                hint=_PIN_AGAIN,
            )
        return pin.revision

    def with_pin(self, model: ResolvedModel, pin: Pin) -> "ModelLock":
        """A copy in which the model's pin is added or replaced."""
        return ModelLock(self.path, {**self.models, self.key_of(model): pin})

    def write(self) -> None:
        """Write the lock file atomically; raises ResourceError."""
        models = {name: asdict(pin) for name, pin in sorted(self.models.items())}
        text = json.dumps({"format": FORMAT, "models": models}, ensure_ascii=False, indent=1)
        with disk_errors("cannot write", self.path):
            write_durably(self.path, f"{text}\n".encode(), scratch=self.path.parent, mode=0o644)


_PIN_AGAIN = "If the change is intended, pin it: `batchgen models pin JOB`."


def lock_path(job_file: Path) -> Path:
    """`job.lock.json` in the folder of `job.yaml`."""
    return job_file.with_suffix(".lock.json")


def read_lock(path: Path) -> ModelLock | None:
    """The lock file; None if it does not exist.

    Raises:
        ModelError: it is damaged, or has another format number.
    """
    if not exists(path):
        return None
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise ModelError(
            f"{path}: format {content.get('format')!r}, expected {FORMAT}",
            hint="Pin the models again with this version: `batchgen models pin JOB`.",
        )
    try:
        models: Any = content["models"]
        return ModelLock(path, {str(name): _pin(entry) for name, entry in models.items()})
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} is damaged: {type(error).__name__}: {error}",
            hint="Restore it from version control, or pin the models again: `batchgen models pin JOB`.",
        ) from error


def _pin(entry: Mapping[str, Any]) -> Pin:
    files = {
        str(name): PinnedFile(int(f["bytes"]), str(f["sha256"]))
        for name, f in entry["files"].items()
    }
    return Pin(entry["source"], str(entry["revision"]), files)


def make_pin(model: ResolvedModel, sha256: FileHasher) -> Pin:
    """The pin of a model as it is on disk; raises ModelError if a file cannot be read."""
    folder, names = _pinned_files(model)
    files = {
        name: PinnedFile((folder / name).stat().st_size, sha256(folder / name)) for name in names
    }
    return Pin("hub" if model.source == "cache" else model.source, model.revision, files)


def verify_pin(lock: ModelLock, model: ResolvedModel, sha256: FileHasher) -> Pin:
    """Compare a model with its pin, and return the pin.

    Raises:
        ModelError: there is no pin, or files differ, are missing or were added; each is named.
    """
    pin = lock.require(lock.key_of(model))
    folder, names = _pinned_files(model)
    found = list(_differences(folder, names, pin, sha256))
    if found:
        more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        raise ModelError(
            f"{model.name} differs from {lock.path}: {'; '.join(found[:_SHOWN] + more)}",
            hint=f"Download or copy the model to {folder} again. {_PIN_AGAIN}",
        )
    return pin


def _pinned_files(model: ResolvedModel) -> tuple[Path, list[str]]:
    """A folder and its files that are pinned: of a GGUF file the file alone, from which all others are made."""
    if model.gguf is not None:
        return model.gguf.parent, [model.gguf.name]
    return model.folder, _files(model.folder)


def _differences(folder: Path, names: Sequence[str], pin: Pin, sha256: FileHasher) -> Iterator[str]:
    there = set(names)
    for name, expected in pin.files.items():
        if name not in there:
            yield f"{name} is missing"
            continue
        size = (folder / name).stat().st_size
        if size != expected.bytes:
            yield f"{name} has {size:,} bytes, expected {expected.bytes:,}"
        elif (found := sha256(folder / name)) != expected.sha256:
            yield f"{name} has sha256 {found[:16]}…, expected {expected.sha256[:16]}…"
    for name in sorted(there - pin.files.keys()):
        if name.endswith(READ_BY_LOADERS):
            yield f"{name} is not pinned"


def _files(folder: Path) -> list[str]:
    """All files but hidden ones, which version control and downloads leave behind."""
    found = (file.relative_to(folder) for file in folder.rglob("*") if is_file(file))
    return sorted(
        f.as_posix()
        for f in found
        if not any(part.startswith(".") or part == "__pycache__" for part in f.parts)
    )
