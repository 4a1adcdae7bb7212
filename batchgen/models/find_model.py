"""Resolves `model.path` to a folder on this machine, and downloads the model if needed.

    your folder or GGUF file ──> demo: ──> the hub's cache ──> the hub (one probe of at most 3 seconds)

The first match is taken. Folders and cached models never connect: HF_HUB_OFFLINE is set before huggingface_hub is
imported. Imports neither torch nor transformers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchgen.errors import ModelError
from batchgen.lora.adapter_folder import check_adapter_files, is_adapter_folder
from batchgen.models.demo import demo_model as demo
from batchgen.models.formats.gguf_model import (
    converted_folder,
    is_gguf_file,
    prepare_gguf_model,
)
from batchgen.models.hubs.hub import PROBE_SECONDS, Hub, UnreachableError, go_offline
from batchgen.models.hubs.hub_file import HubFile
from batchgen.models.model_folder import check_model_folder, check_tokenizer_folder
from batchgen.models.model_names import hub_of, require_adapter_id, require_model_id, similar_names
from batchgen.progress import SILENT, Reporter
from batchgen.storage.cache_folder import cache_folder

Wanted = Literal["safetensors", "openvino", "tokenizer", "adapter", "any"]
"""What a folder must contain: a model with weights in a format, or another thing; `any`: any model, or an adapter."""
ModelSource = Literal["folder", "demo", "cache", "hub"]
DEMO = "demo:"
_DEMO_MODEL = "--set model.path=demo:smollm2-135m"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model on this machine.

    Attributes:
        name: `model.path` of the job.
        folder: absolute; contains config, weights and usually the tokenizer.
        source: "hub" if it was downloaded now.
        revision: commit of a hub model, short hash of a demo model's source, empty for a folder.
        gguf: the GGUF file that `folder` was converted from; None for other models.
    """

    name: str
    folder: Path
    source: ModelSource
    revision: str
    gguf: Path | None = None

    @property
    def own_path(self) -> Path | None:
        """The user's folder or file; None for a model with a name."""
        return (self.gguf or self.folder) if self.source == "folder" else None


def resolve_model(
    path: str,
    *,
    revision: str | None = None,
    cache: Path | None = None,
    wanted: Wanted = "safetensors",
    reporter: Reporter = SILENT,
) -> ResolvedModel:
    """Find a model or an adapter, and download it if needed; then set HF_HUB_OFFLINE.

    Args:
        path: a folder, a GGUF file on this machine or of the hub (OWNER/NAME/file.gguf), a demo model such as demo:smollm2-135m, the id of a hub model, or
            modelscope:OWNER/NAME. An adapter is a folder, or in the hub or ModelScope.
        revision: commit, tag or branch of a hub model.
        cache: folder of demo models; default: `cache_folder()`.
        wanted: what it must contain.
        reporter: receives messages and progress.

    Raises:
        ModelError: it is not found, incomplete or not supported.
        ResourceError: the disk is too full.
    """
    resolver = Resolver(
        hub=hub_of(path),
        cache=cache,
        reporter=reporter,
        wanted=wanted,
    )
    found = resolver.resolve(path, revision)
    go_offline()
    return found


def find_adapter_on_disk(path: str, revision: str | None = None) -> Path | None:
    """The folder of an adapter that is on this machine; None if it must be downloaded first.

    Raises:
        ModelError: the path cannot be read, or can be neither a folder nor an id.
    """
    if (folder := _as_folder(path)) is not None:
        return folder
    require_adapter_id(path)
    return hub_of(path).snapshot(path, revision)


def find_on_disk(path: str, revision: str | None = None) -> Path | None:
    """The folder of a model that is on this machine; None if it must be downloaded or prepared first.

    Raises:
        ModelError: the path cannot be read, or is an unknown demo model.
    """
    if (folder := _as_folder(path)) is not None:
        return folder
    if is_gguf_file(path):
        return converted_folder(Path(path).expanduser().absolute(), cache_folder())
    if (remote := HubFile.of(path)) is not None:
        file = remote.cached(hub_of(path), revision)
        return None if file is None else converted_folder(file, cache_folder())
    if path.startswith(DEMO):
        folder = demo.find_demo_model(path).folder(cache_folder())
        return _as_folder(str(folder))
    require_model_id(path)
    return hub_of(path).snapshot(path, revision)


@dataclass(frozen=True, slots=True)
class Resolver:
    """Where to search.

    Attributes:
        cache: folder of demo models and converted files; None: `cache_folder()`.
        wanted: with "tokenizer", a folder needs neither config nor weights.
        probe_seconds: time limit for the hub's response.
    """

    hub: Hub
    cache: Path | None = None
    reporter: Reporter = SILENT
    wanted: Wanted = "safetensors"
    probe_seconds: float = PROBE_SECONDS

    def resolve(self, path: str, revision: str | None = None) -> ResolvedModel:
        """As `resolve_model`, without setting HF_HUB_OFFLINE."""
        folder = _as_folder(path)
        if folder is not None:
            self._refuse_revision(path, revision)
            self._check(folder)
            return ResolvedModel(path, folder, "folder", "")
        if is_gguf_file(path) and self.wanted != "adapter":
            self._refuse_revision(path, revision)
            return self._gguf_model(path)
        if (remote := HubFile.of(path)) is not None and self.wanted != "adapter":
            return self._hub_gguf(path, remote, revision)
        if path.startswith(DEMO) and self.wanted != "adapter":
            self._refuse_revision(path, revision)
            return self._demo_model(path)
        if self.wanted == "adapter":
            require_adapter_id(path)
        else:
            require_model_id(path)
        return self._hub_model(path, revision)

    def _check(self, folder: Path) -> None:
        try:
            if self.wanted == "adapter" or self._is_adapter(folder):
                check_adapter_files(folder)
            elif self.wanted == "tokenizer":
                check_tokenizer_folder(folder)
            else:
                check_model_folder(folder, self.wanted)
        except OSError as error:
            raise ModelError(f"{folder}: {error.strerror or error}") from error

    def _is_adapter(self, folder: Path) -> bool:
        return self.wanted == "adapter" or (self.wanted == "any" and is_adapter_folder(folder))

    def _refuse_revision(self, path: str, revision: str | None) -> None:
        if revision is not None:
            raise ModelError(
                f"{self._revision_key}: {revision} has no effect: {path} is not a hub model",
                hint=f"Remove {self._revision_key} from the job.",
            )

    @property
    def _revision_key(self) -> str:
        return "model.adapter_revision" if self.wanted == "adapter" else "model.revision"

    @property
    def _ways_out(self) -> str:
        key = "adapter" if self.wanted == "adapter" else "path"
        ways = [("a folder", f"--set model.{key}=FOLDER")]
        ways += [(what, how.format(key=key)) for what, how in self.hub.elsewhere]
        if key == "path":
            ways.append(
                ("the demo model", f"{_DEMO_MODEL}   (93 MB, from the Python package index)")
            )
        lines = [f"    · {f'{what}:':<21} {how}" for what, how in ways]
        return "\n".join(["Use one of these:", *lines])

    def _demo_model(self, name: str) -> ResolvedModel:
        known, cache = demo.find_demo_model(name), self.cache or cache_folder()
        folder = demo.prepare_demo_model(known, cache, reporter=self.reporter)
        return ResolvedModel(name, folder, "demo", known.wheel.member_sha256[:8])

    def _gguf_model(self, path: str) -> ResolvedModel:
        file = Path(path).expanduser().absolute()
        return ResolvedModel(path, self._converted(file), "folder", "", file)

    def _hub_gguf(self, path: str, remote: HubFile, revision: str | None) -> ResolvedModel:
        file = remote.cached(self.hub, revision)
        source: ModelSource = "hub" if file is None else "cache"
        if file is None:
            self._require_hub(remote.model_id, revision, f"does not contain {remote.name}")
            file = remote.fetched(self.hub, revision, self.reporter)
        return ResolvedModel(path, self._converted(file), source, remote.commit(file), file)

    def _converted(self, file: Path) -> Path:
        return prepare_gguf_model(file, self.cache or cache_folder(), reporter=self.reporter)

    def _hub_model(self, model_id: str, revision: str | None) -> ResolvedModel:
        defect = "does not contain it"
        if (snapshot := self.hub.snapshot(model_id, revision)) is not None:
            try:
                self._check(snapshot)
                if not self._is_adapter(snapshot):
                    check_tokenizer_folder(snapshot)  # an interrupted download may not contain it
            except ModelError as error:
                defect = f"contains an unusable copy: {error.message}"
            else:
                return ResolvedModel(model_id, snapshot, "cache", snapshot.name)
        self._require_hub(model_id, revision, defect)
        snapshot = self.hub.fetch(model_id, revision, self.reporter)
        self._check(snapshot)
        if revision is None:
            self.reporter.info(self.hub.newest(model_id, self._revision_key, snapshot))
        return ResolvedModel(model_id, snapshot, "hub", snapshot.name)

    def _require_hub(self, model_id: str, revision: str | None, defect: str) -> None:
        if self.hub.offline_by is not None:
            raise self._absent(
                model_id,
                revision,
                f"{self.hub.offline_by} forbids connections to {self.hub.title}",
                defect,
            )
        try:
            self.hub.probe(self.probe_seconds)
        except UnreachableError as error:
            reason = f"{self.hub.shown_endpoint} does not respond ({error})"
            raise self._absent(model_id, revision, reason, defect) from error

    def _absent(self, model_id: str, revision: str | None, reason: str, defect: str) -> ModelError:
        wanted = model_id if revision is None else f"{model_id} at revision {revision}"
        similar = similar_names(model_id, self.hub.models())
        adapter = self.wanted == "adapter"
        return ModelError(
            f"{'adapter' if adapter else 'model'} {wanted} is not on this machine, and {reason}",
            hint=f"{self._ways_out}\n  Searched: {Path(model_id).absolute()} (no such folder), "
            f"{self.hub.cache} ({defect}){similar}.",
        )


def _as_folder(path: str) -> Path | None:
    try:
        folder = Path(path).expanduser().absolute()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError) as error:  # no permission, a name too long, an unknown ~user
        raise ModelError(f"{path}: {error}") from error
