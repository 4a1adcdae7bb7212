"""A GGUF file in a repository of a hub: `OWNER/NAME/file.gguf` or `modelscope:OWNER/NAME/file.gguf`, also in a folder of the repository."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from batchgen.models.hubs.hub import Hub
from batchgen.progress import Reporter
from batchgen.storage.entries import is_file, is_folder

_HUB_FILE = re.compile(
    r"((?:modelscope:)?[A-Za-z0-9][\w.-]*/[\w.-]+)/((?:[\w.-]+/)*[\w.-]+\.gguf)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository; `name` is relative to it."""

    model_id: str
    name: str

    @classmethod
    def of(cls, path: str) -> Self | None:
        """What `model.path` names; None for a path on this machine, which its folder may show although the file is missing."""
        parts = _HUB_FILE.fullmatch(path)
        if parts is None or ".." in path or is_file(file := Path(path)) or is_folder(file.parent):
            return None
        return cls(parts[1], parts[2])

    def cached(self, hub: Hub, revision: str | None) -> Path | None:
        """The file in the hub's cache."""
        snapshot = hub.snapshot(self.model_id, revision)
        file = None if snapshot is None else snapshot / self.name
        return file if file is not None and is_file(file) else None

    def fetched(self, hub: Hub, revision: str | None, reporter: Reporter) -> Path:
        """The file, downloaded into the hub's cache; raises ModelError."""
        return hub.fetch(self.model_id, revision, reporter, self.name) / self.name

    def commit(self, file: Path) -> str:
        """The commit of the snapshot in which the file is."""
        return file.parents[self.name.count("/")].name
