"""ModelScope as a hub: its cache on this machine, as its own library leaves it, and the download.

    <cache>/models/OWNER--NAME/snapshots/REVISION/      REVISION: a commit, a tag or a branch; default: master

A folder of a branch is the branch as it was when it was downloaded. Does not import modelscope_hub.
"""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from batchgen.errors import ModelError
from batchgen.models.hubs import modelscope_download
from batchgen.models.hubs.hub import PROBE_SECONDS, Hub, offline_variable
from batchgen.models.hubs.modelscope_download import folder_of
from batchgen.storage.entries import is_file, is_folder, list_folder

PREFIX = "modelscope:"
_NAME = re.compile(r"modelscope:[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[A-Za-z0-9][\w.-]*")


def check_name(name: str) -> None:
    """Raise ModelError unless it is `modelscope:OWNER/NAME`."""
    if _NAME.fullmatch(name) is None or "--" in name or ".." in name:
        raise ModelError(
            f"{name} is not a model of ModelScope; expected modelscope:OWNER/NAME",
            hint="Give owner and name as the model's page shows them, such as modelscope:Qwen/Qwen3-0.6B.",
        )


@dataclass(frozen=True, slots=True)
class ModelScope(Hub):
    """ModelScope and its cache. Names of models begin with `modelscope:`, here as in a job."""

    title: ClassVar[str] = "ModelScope"
    endpoint_variable: ClassVar[str] = "MODELSCOPE_ENDPOINT"
    elsewhere: ClassVar[tuple[tuple[str, str], ...]] = (
        ("another address", "MODELSCOPE_ENDPOINT=https://…  before the command"),
        ("the hub", "--set model.{key}=OWNER/NAME"),
    )
    default_revision: ClassVar[str] = "master"
    downloads_with: ClassVar[str] = modelscope_download.__name__

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables that modelscope_hub reads, and those with which the user forbids connections to hubs."""
        cache = environment.get("MODELSCOPE_CACHE") or "~/.cache/modelscope"
        endpoint = environment.get(cls.endpoint_variable) or "https://modelscope.cn"
        return cls(
            cache=Path(cache).expanduser().absolute(),
            endpoint=(endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/"),
            offline_by=offline_variable(environment),
        )

    def repository(self, model_id: str) -> Path:
        """The folder of a model in the cache."""
        return folder_of(self.cache, model_id.removeprefix(PREFIX))

    def snapshot(self, model_id: str, revision: str | None) -> Path | None:
        """The folder of a revision in the cache; None if its download did not end."""
        wanted = revision or self.default_revision
        if _REVISION.fullmatch(wanted) is None:
            raise ModelError(
                f"revision {wanted!r} of {model_id}: expected letters, digits, `_`, `-` and `.`",
                hint="Give a commit, a tag or a branch of the model, such as master.",
            )
        folder = self.repository(model_id) / "snapshots" / wanted
        return folder if is_folder(folder) and not self.is_unfinished(folder) else None

    def is_unfinished(self, folder: Path) -> bool:
        """Whether the download of a snapshot was interrupted: by its marker, or a part of a file."""
        return any(folder.rglob(f"*{modelscope_download.UNFINISHED}"))

    def newest(self, model_id: str, key: str, snapshot: Path) -> str:
        """The message about a download without a revision."""
        return (
            f"{model_id}: branch {snapshot.name} as it is now, because {key} is not set; "
            "to fix its files, pin them: `batchgen models pin JOB`"
        )

    def models(self) -> tuple[str, ...]:
        """Names of the models in the cache, complete or not, sorted."""
        folders = [f.name for f in list_folder(self.cache / "models") if is_folder(f / "snapshots")]
        return tuple(sorted(PREFIX + name.replace("--", "/", 1) for name in folders))

    def probe(self, seconds: float = PROBE_SECONDS) -> None:
        """As `Hub.probe`.

        Raises:
            ModelError: the library that downloads is not installed.
            UnreachableError: as `Hub.probe`.
        """
        if importlib.util.find_spec("modelscope_hub") is None:
            raise ModelError(
                "models of ModelScope are downloaded with modelscope-hub, which is not installed",
                hint="Install it: pip install 'batchgen-llm[modelscope]'.",
            )
        Hub.probe(self, seconds)

    def _bytes_on_disk(self, model_id: str) -> int:
        files = self.repository(model_id).rglob("*")
        return sum(file.stat().st_size for file in files if is_file(file))
