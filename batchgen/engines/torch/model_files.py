"""A listing of a model's files that changes when one of them does."""

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from batchgen.job.spec import ModelSpec

_SETTLED_SECONDS = 2.0
"""A file that was touched this shortly before it was looked at could change once more within a tick of its clock."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's files as they lay there before they were read.

    Attributes:
        listing: what they looked like, in one word.
        settled: none of them was touched just before.
    """

    folder: Path
    spec: ModelSpec
    listing: str
    settled: bool

    @classmethod
    def look(cls, folder: Path, spec: ModelSpec) -> "ModelFiles":
        """Look at every file under `folder`. Where that cannot be, because one goes away meanwhile, nothing is settled."""
        now = time.time()
        try:
            seen = [(str(f.relative_to(folder)), f.stat()) for f in _files(folder)]
        except OSError:
            return cls(folder, spec, "unknown", settled=False)
        lines = [
            f"{name}\0{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino} {s.st_dev}"
            for name, s in seen
        ]
        touched = max((max(s.st_mtime, s.st_ctime) for _, s in seen), default=0.0)
        return cls(folder, spec, _hashed(lines), settled=touched + _SETTLED_SECONDS <= now)

    def unchanged(self) -> bool:
        """Whether the same files still lie there."""
        return self.settled and ModelFiles.look(self.folder, self.spec).listing == self.listing


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file


def _hashed(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()[:32]
