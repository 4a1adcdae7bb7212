"""SHA-256 of large files without reading them every night: a note in the cache remembers it.

A note counts only while size, times, inode and device of the file are those it was made for. The time of change
(ctime) is among them: unlike the time of writing, no program can set it back. What a disk loses by itself shows in
none of these; reading every byte again finds that (`HashCache.read`). Knows nothing of models.
"""

import hashlib
import json
import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ModelError

SMALL_BYTES = 1 << 20
"""Smaller files are always read: that takes no longer than finding their note."""
SETTLED_SECONDS = 2.0
"""A file that was touched this shortly before it was read gets no note: clocks of filesystems are coarse, and it
could change once more within the same tick."""


@dataclass(frozen=True, slots=True)
class HashCache:
    """Notes about files, in a folder that is made when the first is written; it may be removed at any time."""

    folder: Path
    small_bytes: int = SMALL_BYTES
    settled_seconds: float = SETTLED_SECONDS

    def sha256(self, file: Path) -> str:
        """The file's SHA-256 in hex, from its note or else by reading it.

        Raises:
            ModelError: it cannot be read, or changes meanwhile.
        """
        return self.noted(file) or self.read(file)

    def noted(self, file: Path) -> str | None:
        """What is known of the file as it is now, without reading it."""
        try:
            found = json.loads(self._note(file).read_text("utf-8"))
            same = found["file"] == _appearance(file.stat())
            sha256 = str(found["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return sha256 if same else None

    def read(self, file: Path) -> str:
        """As `sha256`, by reading every byte whatever is noted; the note is made anew.

        Raises:
            ModelError: it cannot be read, or changes meanwhile.
        """
        try:
            before = file.stat()
            began = time.time()
            with file.open("rb") as opened:
                sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
            after = file.stat()
        except OSError as error:
            raise ModelError(f"{file}: {error.strerror or error}") from error
        if _appearance(before) != _appearance(after):
            raise ModelError(
                f"{file} changes while it is read", hint="wait until its copy or download has ended"
            )
        touched = max(before.st_mtime, before.st_ctime)
        if before.st_size >= self.small_bytes and touched + self.settled_seconds <= began:
            self._remember(file, before, sha256)
        return sha256

    def _note(self, file: Path) -> Path:
        name = hashlib.sha256(str(file.absolute()).encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / f"{name[:32]}.json"

    def _remember(self, file: Path, seen: os.stat_result, sha256: str) -> None:
        note = self._note(file)
        content = {"path": str(file.absolute()), "file": _appearance(seen), "sha256": sha256}
        temporary = note.with_name(f"{note.name}.{uuid.uuid4().hex}.tmp")
        # Without a note the file is read again next time, which costs time and nothing else.
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_text(json.dumps(content), "utf-8")
            temporary.replace(note)


def _appearance(seen: os.stat_result) -> list[int]:
    return [seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, seen.st_dev]
