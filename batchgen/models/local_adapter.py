"""The adapter of a model on this machine: found, hashed, and compared with the model by what its files state."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import AdapterError, ModelError, Problem
from batchgen.jobfile.load import LoadedJob
from batchgen.lora.adapter_folder import ADAPTER_FILES, Adapter, read_adapter
from batchgen.models.find_model import ResolvedModel, find_adapter_on_disk
from batchgen.models.hash_cache import HashCache
from batchgen.models.info import tokenizer_identity
from batchgen.models.model_folder import VOCABULARY_FILES
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.entries import is_file, is_folder


@dataclass(frozen=True, slots=True)
class LocalAdapter:
    """An adapter on this machine, its weights unread."""

    resolved: ResolvedModel
    adapter: Adapter

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 by name of each file that decides the answers."""
        hashes = HashCache(cache_folder() / "hashes")
        return {name: hashes.sha256(self.resolved.folder / name) for name in ADAPTER_FILES}

    @property
    def identity(self) -> dict[str, str]:
        """As `ModelInfo.identity`."""
        return {"adapter_sha256": hashlib.sha256("".join(self.files.values()).encode()).hexdigest()}

    def notes(self, model: ResolvedModel, tokenizer: Path) -> Iterator[str]:
        """What a user should know before the adapter is merged into this model, a sentence each."""
        base = self.adapter.base_model
        if base and not _same_model(base, model):
            yield f"the adapter was trained with {base}; its layers fit {model.name}"
        folder = self.resolved.folder
        if any(is_file(folder / name) for name in VOCABULARY_FILES) and (
            tokenizer_identity(folder) != tokenizer_identity(tokenizer)
        ):
            yield f"the adapter has a tokenizer of its own, which is not used; to use it: model.tokenizer: {folder}"

    def record(self) -> Mapping[str, object]:
        """The adapter in a manifest."""
        return {
            "name": self.resolved.name,
            "source": self.resolved.source,
            "revision": self.resolved.revision,
            "base_model": self.adapter.base_model,
            "parameters": self.adapter.parameters,
            "files": self.files,
        }


def find_adapter(resolved: ResolvedModel) -> LocalAdapter:
    """Read an adapter that is on this machine. Raises AdapterError."""
    return LocalAdapter(resolved, read_adapter(resolved.folder))


def check_adapters_on_disk(loaded: LoadedJob) -> None:
    """Check the adapters that the job names, for `validate`; one that must be downloaded first is left out.

    Raises:
        JobFileError: adapters are damaged or not supported; all problems at once.
    """
    named = {"model": loaded.job.model} | {
        f"evaluate.judges[{number}].model": judge.model
        for number, judge in enumerate(loaded.job.evaluate.judges)
        if judge.model is not None
    }
    problems: list[Problem] = []
    for key, spec in named.items():
        if spec.adapter is None:
            continue
        try:
            folder = find_adapter_on_disk(spec.adapter, spec.adapter_revision)
            if spec.adapter_revision and is_folder(Path(spec.adapter)):
                message = f"has no effect: {spec.adapter} is not in the hub"
                problems.append(Problem(f"{key}.adapter_revision", message, "Remove it."))
            if folder is not None:
                read_adapter(folder)
        except AdapterError as error:
            problems += error.at(f"{key}.adapter")
        except ModelError as error:
            problems.append(Problem(f"{key}.adapter", error.message, error.hint))
    if problems:
        raise loaded.error(problems)


@contextmanager
def adapter_errors(loaded: LoadedJob, key: str) -> Iterator[None]:
    """Raise the problems of an adapter as errors of the job file. `key` is that of the model's section."""
    try:
        yield
    except AdapterError as error:
        raise loaded.error(error.at(f"{key}.adapter")) from error


def _same_model(base: str, model: ResolvedModel) -> bool:
    """Whether names may mean the same model: folders and repositories are compared by their last part."""
    last = Path(base).name.lower()
    return last in (Path(model.name).name.lower(), model.folder.name.lower())
