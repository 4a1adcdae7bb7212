"""Claims of `--shard any`: which worker makes which part, without anybody who hands them out.

    claims/00012.0   the first claim of part 12: the name of a worker
    claims/00012.1   the part was taken over; the claim with the largest number counts

A claim is created by link(), so that exactly one worker gets each. A worker that ended, or whose process is gone, loses its
claims at once; one whose beat another worker sees unchanged for `expiry` seconds of its own clock loses them then. No clocks of
two machines are compared. A worker that lost a claim while it lives may still seal the part, or find it sealed: the parts
themselves are created by link() too, so that a wrong guess costs time and nothing else.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batchgen.errors import StateError
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.state.shards.members import member
from batchgen.storage.durable import disk_errors
from batchgen.storage.entries import list_folder

EXPIRY_SECONDS = 120.0
_NAME = re.compile(r"(\d{5,})\.(\d+)")


class ClaimStore(Protocol):
    """Where claims are kept, visible to all workers."""

    def newest(self) -> Mapping[int, int]:
        """The number of the newest claim of each claimed part."""

    def owner(self, part: int, claim: int) -> str:
        """The worker that made a claim."""

    def create(self, part: int, claim: int, owner: str) -> bool:
        """Make a claim, of which this number exists once; whether this call made it."""

    def beat(self, owner: str) -> int | None:
        """What rises while a worker lives; None if it is certain that it does not."""


class PartClaims:
    """The claims of one worker."""

    def __init__(
        self, store: ClaimStore, me: str, clock: Callable[[], float], expiry: float
    ) -> None:
        self._store = store
        self._me = me
        self._clock = clock
        self._expiry = expiry
        self._taken: set[int] = set()
        self._seen: dict[str, tuple[int, float]] = {}

    def take(self, missing: Iterable[int]) -> int | None:
        """Claim the first of these parts that nobody makes; None if there is none now.

        Parts that nobody claimed come before those of workers that are gone. A part is taken once by one object.
        """
        newest = self._store.newest()
        claimed = []
        for part in missing:
            if part in self._taken:
                continue
            if part in newest:
                claimed.append(part)
            elif self._create(part, 0):
                return part
        for part in claimed:
            owner = self._store.owner(part, newest[part])
            if owner == self._me:  # by an earlier process of this worker
                self._taken.add(part)
                return part
            if self._is_gone(owner) and self._create(part, newest[part] + 1):
                return part
        return None

    def _create(self, part: int, claim: int) -> bool:
        if not self._store.create(part, claim, self._me):
            return False
        self._taken.add(part)
        return True

    def _is_gone(self, owner: str) -> bool:
        beat, now = self._store.beat(owner), self._clock()
        if beat is None:
            return True
        known, since = self._seen.get(owner, (None, now))
        if beat != known:
            since = now
        self._seen[owner] = (beat, since)
        return now - since >= self._expiry


@dataclass(frozen=True, slots=True)
class FolderClaims:
    """Claims as files in the run's folder."""

    folder: RunFolder

    def newest(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for path in list_folder(self.folder.claims):
            name = _NAME.fullmatch(path.name)
            if name is None:
                raise StateError(f"{path} is not a claim of the run", hint="Move it away.")
            part, claim = int(name[1]), int(name[2])
            found[part] = max(claim, found.get(part, 0))
        return found

    def owner(self, part: int, claim: int) -> str:
        return str(read_json(self._path(part, claim))["owner"])

    def create(self, part: int, claim: int, owner: str) -> bool:
        with disk_errors("cannot create", self.folder.claims):
            self.folder.claims.mkdir(mode=0o700, exist_ok=True)
        return self.folder.create_json(self._path(part, claim), {"owner": owner}, stage="claim")

    def beat(self, owner: str) -> int | None:
        found = member(self.folder, owner)
        return None if found.has_ended or not found.content else found.beat

    def _path(self, part: int, claim: int) -> Path:
        return self.folder.claims / f"{part:05d}.{claim}"
