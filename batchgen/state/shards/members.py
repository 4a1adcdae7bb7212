"""The processes that make parts of a run at the same time: who they are, and whether they live.

    .batchgen/shards/3-of-16.json       shard 3/16: its process, its engine, how far it came
    .batchgen/shards/any-HOST-0.json    a worker with `--shard any`
    .batchgen/shards/versions.json      the versions of the libraries that decide the answers, of all of them

A member's file is locked (flock) while its process lives: the kernel releases the lock when the process ends, however it
ends. For machines that do not see the lock, its `beat` rises as long as the process lives. An orderly end is recorded.
"""

import fcntl
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from batchgen.errors import LockedError, StateError
from batchgen.state.crash_marker import boot_id
from batchgen.state.lock import is_held, try_lock
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.state.shards.shard import Shard
from batchgen.storage.durable import disk_errors
from batchgen.storage.entries import check_regular, list_folder

SECONDS_BETWEEN_BEATS = 15.0
_RECORD_BYTES = 1024
"""A record is padded to a multiple of this, so that one write replaces it."""
_TRIES = 5
_SECONDS_BETWEEN_TRIES = 0.05
"""Another process may look at a lock in the moment in which it is to be taken."""


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """The content of a member's file; empty while it is written for the first time."""

    name: str
    content: Mapping[str, Any]
    is_locked: bool

    @property
    def shard(self) -> str:
        return str(self.content.get("shard", self.name))

    @property
    def division(self) -> str:
        """The number of shards of its division, or "any"; by its name, since the content is written when it is locked already."""
        return "any" if self.name.startswith("any-") else self.name.rpartition("-of-")[2]

    @property
    def is_alive(self) -> bool:
        """Whether its process lives, as far as its lock shows it on this machine."""
        return self.is_locked

    @property
    def has_ended(self) -> bool:
        """Whether it is certain that its process does not make parts any more."""
        if self.is_locked:
            return False
        return bool(self.content.get("ended")) or self.content.get("boot") == boot_id()

    @property
    def beat(self) -> int:
        return int(self.content.get("beat", 0))

    def __str__(self) -> str:
        owner = self.content
        if "pid" not in owner:
            return self.shard
        return f"{self.shard} (process {owner['pid']} on {owner['host']})"


class ShardMember:
    """This process among the members of a run; made by `join`."""

    def __init__(self, path: Path, descriptor: int, content: Mapping[str, Any]) -> None:
        self.name = path.stem
        self._path = path
        self._descriptor = descriptor
        self._content = dict(content)
        self._lock = threading.Lock()

    def record(self, **facts: object) -> None:
        """Write facts into this member's file."""
        with self._lock, disk_errors("cannot write", self._path):
            self._content |= facts
            text = json.dumps(self._content, ensure_ascii=False, default=str).encode()
            padded = text.ljust(-(-len(text) // _RECORD_BYTES) * _RECORD_BYTES)
            os.pwrite(self._descriptor, padded, 0)
            os.ftruncate(self._descriptor, len(padded))

    @property
    def content(self) -> Mapping[str, Any]:
        return self._content

    def beat(self) -> None:
        """Show that this process lives."""
        self.record(beat=int(self._content["beat"]) + 1)


@contextmanager
def join(
    folder: RunFolder,
    shard: Shard,
    versions: Mapping[str, str | None],
    *,
    seconds_between_beats: float = SECONDS_BETWEEN_BEATS,
) -> Iterator[ShardMember]:
    """Be a member while the block runs. The caller holds the run's lock together with the other members.

    Args:
        folder: of the run.
        shard: of this process.
        versions: of the libraries that decide the answers on this machine.
        seconds_between_beats: in which the beat rises.

    Raises:
        LockedError: the same shard is running, or shards of another number are.
        StateError: the other members had other versions.
    """
    path, descriptor = _take_place(folder, shard)
    done = threading.Event()
    try:
        before = _read(path).content
        member = ShardMember(path, descriptor, _content(shard, before))
        member.record()
        _check_others(folder, member, shard)
        _check_versions(folder, versions)
        beating = threading.Thread(
            target=_beat, args=(member, done, seconds_between_beats), daemon=True
        )
        beating.start()
        try:
            yield member
        finally:
            done.set()
            beating.join()
            member.record(ended=_now())
    finally:
        os.close(descriptor)


def members(folder: RunFolder) -> list[MemberRecord]:
    """All members that the run has had since it was last published, by name."""
    return [_read(path) for path in member_files(folder)]


def member(folder: RunFolder, name: str) -> MemberRecord:
    """One member; one that ended if there is no such file."""
    return _read(folder.shards / f"{name}.json")


def member_files(folder: RunFolder) -> list[Path]:
    """The files of all members."""
    return [p for p in list_folder(folder.shards, ".json") if p != _versions_path(folder)]


def record_end(folder: RunFolder, host: str, process: int) -> None:
    """Record that the process of a member is gone, for machines that cannot see its lock. One that lives records itself again."""
    for path in member_files(folder):
        found = _read(path)
        if (found.content.get("host"), found.content.get("pid")) != (host, process):
            continue
        descriptor = _lock(path)
        if descriptor is not None:
            try:
                ShardMember(path, descriptor, found.content).record(ended=_now())
            finally:
                os.close(descriptor)


def check_none_alive(folder: RunFolder) -> None:
    """LockedError if a member lives; where locks of other machines cannot be seen, only those of this one are found."""
    alive = [one for one in members(folder) if one.is_alive]
    if alive:
        raise LockedError(
            f"shards are running in {folder.path}: {_listed(alive)}",
            hint="Wait until they end, or stop them.",
        )


def _content(shard: Shard, before: Mapping[str, Any]) -> dict[str, Any]:
    """The first content of a member's file, with what an earlier process of the same name recorded of its parts."""
    return {
        "shard": str(shard),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot": boot_id(),
        "since": _now(),
        "beat": int(before.get("beat", 0)) + 1,
        "parts": int(before.get("parts", 0)),
        "seconds": float(before.get("seconds", 0.0)),
        "load_seconds": float(before.get("load_seconds", 0.0)),
        "engine": before.get("engine", {}),
        "processor": before.get("processor", ""),
    }


def _take_place(folder: RunFolder, shard: Shard) -> tuple[Path, int]:
    """Lock the file of this shard, or of the first free place of this machine."""
    with disk_errors("cannot create", folder.shards):
        folder.shards.mkdir(mode=0o700, exist_ok=True)
    if not shard.claims:
        path = folder.shards / f"{shard.index}-of-{shard.count}.json"
        descriptor = _lock(path)
        if descriptor is None:
            raise LockedError(
                f"shard {_read(path)} is running in {folder.path} already",
                hint="Start each shard once; give each process its own number.",
            )
        return path, descriptor
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]
    for place in count():
        path = folder.shards / f"any-{host}-{place}.json"
        if (descriptor := _lock(path)) is not None:
            return path, descriptor
    raise AssertionError


def _lock(path: Path) -> int | None:
    """An open file with its lock; None if another process holds it."""
    check_regular(path)
    with disk_errors("cannot open", path):
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
    for again in range(_TRIES):
        if again:
            time.sleep(_SECONDS_BETWEEN_TRIES)
        if try_lock(descriptor, path, fcntl.LOCK_EX):
            return descriptor
    os.close(descriptor)
    return None


def _check_others(folder: RunFolder, me: ShardMember, shard: Shard) -> None:
    others = [one for one in members(folder) if one.name != me.name and one.is_alive]
    division = str(shard.count) if shard.count else "any"
    different = [one for one in others if one.division != division]
    if different:
        mine = f"shard {shard}" if shard.count else "--shard any"
        raise LockedError(
            f"{mine} cannot run in {folder.path} together with {_listed(different)}",
            hint="Wait until they end, or give all of them the same N. What they have made is kept.",
        )


def _check_versions(folder: RunFolder, mine: Mapping[str, str | None]) -> None:
    path = _versions_path(folder)
    if folder.create_json(path, {"versions": dict(mine)}, stage="versions"):
        return
    check_same_versions(mine, read_json(path)["versions"], str(folder.path))


def check_same_versions(
    mine: Mapping[str, str | None], theirs: Mapping[str, str | None], place: str
) -> None:
    """StateError if this machine has other versions than the shards of a place."""
    names = [name for name in {**theirs, **mine} if theirs.get(name) != mine.get(name)]
    if names:
        listed = "; ".join(f"{n} {mine.get(n)} here, {theirs.get(n)} there" for n in names)
        raise StateError(
            f"this machine has other versions than the shards of {place}: {listed}",
            hint="Install the same versions on every machine. `batchgen run` without --shard finishes the run with those of its machine.",
        )


def _versions_path(folder: RunFolder) -> Path:
    return folder.shards / "versions.json"


def _read(path: Path) -> MemberRecord:
    check_regular(path)
    content: Any = {}
    for _ in range(_TRIES):  # it may be in the middle of being written
        with suppress(OSError, ValueError):
            content = json.loads(path.read_text("utf-8"))
            break
    content = content if isinstance(content, dict) else {}
    return MemberRecord(path.stem, content, is_held(path))


def _listed(found: Sequence[MemberRecord], most: int = 3) -> str:
    more = f" and {len(found) - most:,} more" if len(found) > most else ""
    return ", ".join(map(str, found[:most])) + more


def _beat(member: ShardMember, done: threading.Event, seconds: float) -> None:
    while not done.wait(seconds):
        member.beat()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
