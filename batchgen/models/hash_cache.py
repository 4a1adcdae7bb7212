"""A cache of the SHA-256 of large files, so that unchanged files are not read in every run.

An entry is valid while size, mtime, ctime, inode and device of the file are unchanged; programs cannot set ctime back.
Silent corruption of the disk changes none of these: `HashCache.rehash` reads every byte.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ModelError

SMALL_BYTES = 1 << 20
"""Smaller files are always read, which takes no longer than looking up their entry."""
BLOCK_BYTES = 8 << 20
"""Read at a time: about 8 ms of hashing, after which progress is shown."""
SETTLED_SECONDS = 2.0
"""A file changed this shortly before it was read is not cached: file systems have coarse clocks, so it could change
again with the same times."""


@dataclass(frozen=True, slots=True)
class HashCache:
    """Entries are JSON files in `folder`, which is created with the first one and may be deleted at any time."""

    folder: Path
    small_bytes: int = SMALL_BYTES
    settled_seconds: float = SETTLED_SECONDS

    def sha256(self, file: Path) -> str:
        """The file's SHA-256 in hex, from the cache or by reading the file; raises as `rehash`."""
        return self.cached(file) or self.rehash(file)

    def cached(self, file: Path) -> str | None:
        """The SHA-256 from a valid entry; None without one."""
        try:
            found = json.loads(self._entry(file).read_text("utf-8"))
            same = found["file"] == _appearance(file.stat())
            sha256 = str(found["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return sha256 if same else None

    def rehash(self, file: Path, read: Callable[[int], None] = lambda _: None) -> str:
        """Read every byte, and replace the entry; `read` receives the number of bytes read so far.

        Raises:
            ModelError: the file cannot be read, or changes while it is read.
        """
        try:
            before = file.stat()
            began = time.time()
            sha256 = _digest(file, read)
            after = file.stat()
        except OSError as error:
            raise ModelError(f"{file}: {error.strerror or error}") from error
        if _appearance(before) != _appearance(after):
            raise ModelError(
                f"{file} changes while it is read",
                hint="Wait until its copy or download has finished.",
            )
        touched = max(before.st_mtime, before.st_ctime)
        if before.st_size >= self.small_bytes and touched + self.settled_seconds <= began:
            self._store(file, before, sha256)
        return sha256

    def _entry(self, file: Path) -> Path:
        name = hashlib.sha256(str(file.absolute()).encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / f"{name[:32]}.json"

    def _store(self, file: Path, seen: os.stat_result, sha256: str) -> None:
        entry = self._entry(file)
        content = {"path": str(file.absolute()), "file": _appearance(seen), "sha256": sha256}
        temporary = entry.with_name(f"{entry.name}.{uuid.uuid4().hex}.tmp")
        # Without an entry the file is read again, which costs only time.
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_text(json.dumps(content), "utf-8")
            temporary.replace(entry)


def _digest(file: Path, read: Callable[[int], None]) -> str:
    digest, total, buffer = hashlib.sha256(), 0, memoryview(bytearray(BLOCK_BYTES))
    with file.open("rb", buffering=0) as opened:
        while count := opened.readinto(buffer):
            digest.update(buffer[:count])
            total += count
            read(total)
    return digest.hexdigest()


def _appearance(seen: os.stat_result) -> list[int]:
    return [seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, seen.st_dev]
