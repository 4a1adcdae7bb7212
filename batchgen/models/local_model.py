"""The job's models on this machine: found, compared with the job's lock file if there is one, and described.

job ──resolve──> folders ──verify──> info
                    └──pin──> job.lock.json
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchgen.errors import ModelError, UsageError
from batchgen.job.spec import Job, ModelSpec
from batchgen.jobfile.load import LoadedJob
from batchgen.models.find_model import ResolvedModel, resolve_model
from batchgen.models.formats.gguf_model import is_gguf_file
from batchgen.models.hash_cache import HashCache
from batchgen.models.info import ModelInfo, read_model_info
from batchgen.models.local_adapter import LocalAdapter, adapter_errors, find_adapter
from batchgen.models.lock_file import (
    FileHasher,
    ModelLock,
    Pin,
    lock_path,
    make_pin,
    read_lock,
    verify_pin,
)
from batchgen.models.remote_code import COMMIT, refuse_external_code
from batchgen.models.tokenizer import find_tokenizer
from batchgen.progress import SILENT, Reporter, StepProgress
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.entries import is_file, is_folder, list_folder
from batchgen.storage.openvino_header import WeightFormat

WeightsOf = Callable[[ModelSpec], WeightFormat | None]
"""The weights that a model must have: `engines.engine_registry.required_weights`."""
SERVER_HINT = (
    "Name the server's model in model.served_name, and leave out model.path "
    "or set it to a folder with the tokenizer."
)
ANNOUNCE_HASHING_BYTES = 200_000_000
"""From this many bytes on, a message announces that files are hashed."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine, its weights unread.

    Attributes:
        tokenizer: the model itself unless `model.tokenizer` names another.
        lock: the lock file that it agrees with; None if the job has none.
    """

    resolved: ResolvedModel
    tokenizer: ResolvedModel
    info: ModelInfo
    lock: Path | None
    adapter: LocalAdapter | None = None

    @property
    def identity(self) -> dict[str, str]:
        """Digests of everything that decides the answers, the adapter included."""
        return {**self.info.identity, **(self.adapter.identity if self.adapter else {})}

    @property
    def notes(self) -> list[str]:
        """What a user should know about the adapter."""
        if self.adapter is None:
            return []
        return list(self.adapter.notes(self.resolved, self.tokenizer.folder))


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """A model in the lock file."""

    name: str
    pin: Pin


@dataclass(frozen=True, slots=True)
class PinnedModels:
    """The lock file, and the pins of the models that the job names."""

    lock: Path
    models: Sequence[PinnedModel]


def find_model(
    loaded: LoadedJob, reporter: Reporter, *, weights: WeightFormat | None
) -> LocalModel | None:
    """The job's model, compared with the job's lock file; None if the job names none.

    Without `weights`, a folder with only a tokenizer is enough, and weight files are not read.

    Raises:
        ModelError: it is not found, differs from the lock file, or has code of another repository.
        ResourceError: the disk is too full to download it.
    """
    if loaded.job.model.path is None:
        return None
    lock = read_lock(lock_path(loaded.file))
    with adapter_errors(loaded, "model"):
        return find_local_model(loaded.job.model, lock, reporter, weights=weights)


def find_local_model(
    spec: ModelSpec, lock: ModelLock | None, reporter: Reporter, *, weights: WeightFormat | None
) -> LocalModel:
    """As `find_model`, for any section `model`.

    Raises:
        AdapterError: its adapter is damaged or not supported.
        ModelError, ResourceError: as `find_model`.
    """
    try:
        found = _find(spec, lock, reporter, weights=weights)
    except ModelError as error:
        if spec.base_url is None:
            raise
        raise ModelError(error.message, hint=SERVER_HINT) from error
    if lock is not None:
        for part in found.parts:
            verify_pin(lock, part, _hashing(part, "known", reporter))
    if spec.trust_remote_code:
        for part in (found.model, found.tokenizer):
            refuse_external_code(part.folder)
            if lock is None:
                _require_commit(part, spec)
    info = read_model_info(found.model, weights=weights)
    _hash_weights(info, found.model, reporter)
    adapter = find_adapter(found.adapter) if found.adapter else None
    return LocalModel(found.model, found.tokenizer, info, lock.path if lock else None, adapter)


def model_specs(job: Job) -> list[ModelSpec]:
    """The models that a job names: the generating one, then the judges'."""
    judges = (judge.model for judge in job.evaluate.judges)
    return [spec for spec in (job.model, *judges) if spec is not None and spec.path is not None]


def require_pin(loaded: LoadedJob) -> None:
    """Raise ModelError if the job's lock file is damaged or lacks a model; no model is read."""
    lock = read_lock(lock_path(loaded.file))
    if lock is None:
        return
    named = ((spec.path, spec.adapter) for spec in model_specs(loaded.job))
    for path in (path for paths in named for path in paths if path is not None):
        own = is_folder(Path(path)) or is_gguf_file(path)
        lock.require(lock.key(path, Path(path) if own else None))


def pin_models(
    loaded: LoadedJob, *, weights: WeightsOf = lambda _: "safetensors", reporter: Reporter = SILENT
) -> PinnedModels:
    """Write the job's models into its lock file; reads every byte of them.

    Models in the lock file that this job does not name, such as those of other profiles, stay.

    Raises:
        ModelError: a model is not found or cannot be read.
        ResourceError: the disk is too full, or the lock file cannot be written.
        UsageError: the job has no model.
    """
    specs = _with_a_model(loaded)
    path = lock_path(loaded.file)
    lock = read_lock(path) or ModelLock(path)
    pinned = []
    for part in _parts(specs, None, reporter, weights):
        pin = make_pin(part, _hashing(part, "anew", reporter))
        lock = lock.with_pin(part, pin)
        pinned.append(PinnedModel(lock.key_of(part), pin))
    lock.write()
    return PinnedModels(path, pinned)


def check_pins(
    loaded: LoadedJob, *, weights: WeightsOf = lambda _: "safetensors", reporter: Reporter = SILENT
) -> PinnedModels:
    """Compare the job's models with its lock file; reads every byte of them.

    Raises:
        ModelError: they differ, or are not pinned.
        UsageError: the job has no model or no lock file.
    """
    specs = _with_a_model(loaded)
    lock = read_lock(lock_path(loaded.file))
    if lock is None:
        raise UsageError(
            f"{lock_path(loaded.file)} does not exist", hint="Create it: `batchgen models pin JOB`."
        )
    checked = [
        PinnedModel(
            lock.key_of(part),
            verify_pin(lock, part, _hashing(part, "anew", reporter)),
        )
        for part in _parts(specs, lock, reporter, weights)
    ]
    return PinnedModels(lock.path, checked)


def _with_a_model(loaded: LoadedJob) -> list[ModelSpec]:
    if specs := model_specs(loaded.job):
        return specs
    raise UsageError(
        f"{loaded.file} names no model",
        hint="Set model.path, for example --set model.path=demo:smollm2-135m.",
    )


def _parts(
    specs: Sequence[ModelSpec], lock: ModelLock | None, reporter: Reporter, weights: WeightsOf
) -> list[ResolvedModel]:
    found = (_find(spec, lock, reporter, weights=weights(spec)) for spec in specs)
    return list(dict.fromkeys(part for one in found for part in one.parts))


@dataclass(frozen=True, slots=True)
class _Found:
    model: ResolvedModel
    tokenizer: ResolvedModel
    adapter: ResolvedModel | None

    @property
    def parts(self) -> list[ResolvedModel]:
        return [self.model, self.tokenizer, *([self.adapter] if self.adapter else [])]


def _find(
    spec: ModelSpec, lock: ModelLock | None, reporter: Reporter, *, weights: WeightFormat | None
) -> _Found:
    def revision(name: str, requested: str | None) -> str | None:
        return lock.revision(name, requested) if lock else requested

    path = spec.path or ""
    model = resolve_model(
        path,
        revision=revision(path, spec.revision),
        wanted=weights or "tokenizer",
        reporter=reporter,
    )
    tokenizer = find_tokenizer(
        model,
        spec,
        revision=revision(spec.tokenizer, None) if spec.tokenizer else None,
        reporter=reporter,
    )
    adapter = None
    if spec.adapter is not None:
        pinned = revision(spec.adapter, spec.adapter_revision)
        adapter = resolve_model(spec.adapter, revision=pinned, wanted="adapter", reporter=reporter)
    return _Found(model, tokenizer, adapter)


def _hashing(model: ResolvedModel, how: Literal["known", "anew"], reporter: Reporter) -> FileHasher:
    """The function that hashes the model's files; a message announces it if that takes long."""
    hashes = HashCache(cache_folder() / "hashes")
    files = [f for f in list_folder(model.folder) if is_file(f)]
    unread = [f for f in files if how == "anew" or hashes.cached(f) is None]
    total = sum(f.stat().st_size for f in unread)
    if total >= ANNOUNCE_HASHING_BYTES:
        reporter.info(f"hashing {total / 1e9:,.1f} GB of {model.name}")
    return hashes.rehash if how == "anew" else hashes.sha256


def _hash_weights(info: ModelInfo, model: ResolvedModel, reporter: Reporter) -> None:
    """Read large weights that are not hashed yet, with progress: about a second for each GB on processors with SHA instructions.

    `ModelInfo.identity` then finds their hashes in the cache.
    """
    hashes = HashCache(cache_folder() / "hashes")
    sizes = {
        file: file.stat().st_size
        for file in (model.folder / name for name in info.files)
        if hashes.cached(file) is None
    }
    total, done = sum(sizes.values()), 0
    if total < ANNOUNCE_HASHING_BYTES:
        return
    with reporter.step(f"hashing {total / 1e9:,.1f} GB of {model.name}", total, "B") as step:
        for file, size in sizes.items():
            hashes.rehash(file, _reached_after(step, done))
            done += size


def _reached_after(step: StepProgress, before: int) -> Callable[[int], None]:
    return lambda read: step.reached(before + read)


def _require_commit(model: ResolvedModel, spec: ModelSpec) -> None:
    if model.source in ("cache", "hub") and not COMMIT.fullmatch(spec.revision or ""):
        commit = (
            f"model.revision: {model.revision}, or " if COMMIT.fullmatch(model.revision) else ""
        )
        raise ModelError(
            f"model.trust_remote_code: the code of {model.name} is not fixed to a commit",
            hint=f"Read its *.py files in {model.folder}, then fix that version: "
            f"{commit}`batchgen models pin JOB`.",
        )
