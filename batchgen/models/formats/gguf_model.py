"""GGUF files as models: each is converted once, into a folder of the cache that is named after the file's hash.

    file.gguf ──sha256──> <cache>/models/gguf-<name>-<sha16>/   (safetensors, tokenizer, marker)

The folders together have at most `LIMIT_BYTES`: a new one removes those that were not used for the longest time.
"""

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ModelError
from batchgen.models.formats.conversion import (
    hold_model_lock,
    lock_file,
    publish,
    remove_leftovers,
    require_packages,
    require_space,
    run_conversion,
)
from batchgen.models.formats.gguf_header import GgufHeader, read_gguf_header
from batchgen.models.formats.marker import is_intact, read_marker, write_marker
from batchgen.models.hash_cache import HashCache
from batchgen.progress import Reporter
from batchgen.storage.entries import is_file, is_folder, list_folder

SUFFIX = ".gguf"
LIMIT_BYTES = 100_000_000_000
"""Of all converted folders; the newest one may be larger."""
_IN_USE_SECONDS = 86_400.0
"""A folder used so recently is not removed: a run may need it again."""
_BYTES_PER_NUMBER = 4
_TOKENIZER_BYTES = 100_000_000
_NAME_LENGTH = 60

Convert = Callable[[str, Path, Path, Reporter], None]


@dataclass(frozen=True, slots=True)
class GgufModel:
    """A converted file.

    Attributes:
        name: of the file it was converted from.
        sha256: of that file.
        last_used: seconds since the epoch.
    """

    name: str
    sha256: str
    folder: Path
    bytes: int
    last_used: float


@dataclass(frozen=True, slots=True)
class GgufTools:
    """The conversion and the packages that it needs; tests replace them."""

    convert: Convert = run_conversion
    importable: Callable[[str], object | None] = importlib.util.find_spec
    limit_bytes: int = LIMIT_BYTES


def is_gguf_file(path: str) -> bool:
    """Whether `model.path` names a GGUF file on this machine."""
    return path.lower().endswith(SUFFIX) and is_file(Path(path).expanduser())


def converted_folder(file: Path, cache: Path) -> Path | None:
    """The folder of a file that was converted before; None if it was not, or its hash is not known without reading it."""
    sha256 = HashCache(cache / "hashes").cached(file)
    folder = None if sha256 is None else _folder(file, sha256, cache)
    return folder if folder is not None and is_intact(folder) else None


def prepare_gguf_model(
    file: Path, cache: Path, *, reporter: Reporter, tools: GgufTools | None = None
) -> Path:
    """The folder with the model of a file, which is converted now if it was not before.

    Raises:
        ModelError: the file is damaged or not supported, or a package is missing.
        ResourceError: the disk is too full.
    """
    tools = tools or GgufTools()
    header = read_gguf_header(file)
    sha256 = HashCache(cache / "hashes").sha256(file)
    folder = _folder(file, sha256, cache)
    if not is_intact(folder):
        require_packages(file.name, tools.importable)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with hold_model_lock(folder, reporter):
                _make_once(header, sha256, folder, reporter=reporter, tools=tools)
        except OSError as error:
            raise ModelError(
                f"{error.filename or folder.parent}: {error.strerror or error}",
                hint="Set BATCHGEN_CACHE to a writable folder.",
            ) from error
    with suppress(OSError):  # a cache of another user: it keeps the time of its own last use
        os.utime(lock_file(folder))
    return folder


def list_gguf_models(cache: Path) -> list[GgufModel]:
    """The converted files in the cache, those not used for the longest time first."""
    found = []
    for folder in list_folder(cache / "models"):
        marker = read_marker(folder) if is_folder(folder) else {}
        if "gguf_sha256" in marker and not folder.name.startswith("."):
            files = [file for file in list_folder(folder) if is_file(file)]
            lock = lock_file(folder)
            used = (lock if is_file(lock) else folder).stat().st_mtime
            size = sum(file.stat().st_size for file in files)
            found.append(
                GgufModel(str(marker["name"]), str(marker["gguf_sha256"]), folder, size, used)
            )
    return sorted(found, key=lambda one: one.last_used)


def remove_gguf_model(model: GgufModel) -> None:
    """Delete a converted folder; raises ModelError if it cannot be deleted."""
    removed = model.folder.with_name(f".{model.folder.name}-removed-{os.getpid()}")
    try:
        model.folder.rename(removed)
        shutil.rmtree(removed)
        lock_file(model.folder).unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"{model.folder}: {error.strerror or error}") from error


def _folder(file: Path, sha256: str, cache: Path) -> Path:
    return cache / "models" / f"gguf-{file.stem[:_NAME_LENGTH]}-{sha256[:16]}"


def _make_once(
    header: GgufHeader, sha256: str, folder: Path, *, reporter: Reporter, tools: GgufTools
) -> None:
    """Convert into `folder`, unless another process did so before this one had the lock."""
    if is_intact(folder):
        return
    needed = _BYTES_PER_NUMBER * header.elements + _TOKENIZER_BYTES
    _make_room(folder.parents[1], tools.limit_bytes - needed, reporter)
    require_space(header.file.name, folder.parent, needed)
    remove_leftovers(folder)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        made = work / "model"
        made.mkdir(mode=0o755)
        tools.convert(header.file.name, header.file, made, reporter)
        write_marker(made, {"name": header.file.name, "gguf_sha256": sha256})
        publish(made, folder, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make_room(cache: Path, limit: int, reporter: Reporter) -> None:
    models = list_gguf_models(cache)
    total = sum(model.bytes for model in models)
    for model in models:
        if total <= limit or time.time() - model.last_used < _IN_USE_SECONDS:
            return
        reporter.info(
            f"removing the conversion of {model.name} ({model.bytes / 1e6:,.0f} MB), not used for the longest time"
        )
        remove_gguf_model(model)
        total -= model.bytes
