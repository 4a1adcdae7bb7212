"""Claims of `--shard any`: which worker makes which part, without anybody who hands them out.

    claims/00012.0   the first claim of part 12: a symbolic link whose text is the name of a worker
    claims/00012.1   the part was taken over; the claim with the largest number counts

A claim is created by symlink(), one call that exactly one worker succeeds with. A worker that ended, or whose process is gone,
loses its claims at once; one whose beat another worker sees unchanged for `expiry` seconds of its own clock loses them then. No
clocks of two machines are compared. A worker that lost a claim while it lives may still seal the part, or find it sealed: the
parts themselves are created by link(), so that a wrong guess costs time and nothing else.
"""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batchgen.errors import StateError
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.members import member
from batchgen.storage.durable import disk_errors
from batchgen.storage.failpoints import fail_point

EXPIRY_SECONDS = 120.0


class ClaimStore(Protocol):
    """Where claims are kept, visible to all workers."""

    def is_claimed(self, part: int) -> bool:
        """Whether a part has a claim."""

    def newest(self, part: int) -> tuple[int, str] | None:
        """The number of the newest claim of a part and the worker that made it; None if it has none."""

    def create(self, part: int, claim: int, owner: str) -> bool:
        """Make a claim, of which this number exists once; whether it is this owner's."""

    def beat(self, owner: str) -> int | None:
        """What rises while a worker lives; None if it is certain that it does not."""


class PartClaims:
    """The claims of one worker.

    Workers claim in ascending order, so the claimed parts are nearly all before the unclaimed ones: the next part is found in a few
    looks, in steps that double. What that passes over, and the parts of workers that are gone, come last. The parts are listed
    twice by each worker, and never once for each claim.
    """

    def __init__(
        self,
        store: ClaimStore,
        me: str,
        *,
        missing: Callable[[], Sequence[int]],
        is_sealed: Callable[[int], bool],
        clock: Callable[[], float],
        expiry: float,
    ) -> None:
        """`missing` lists the parts that are not sealed, in ascending order."""
        self._store = store
        self._me = me
        self._missing = missing
        self._is_sealed = is_sealed
        self._clock = clock
        self._expiry = expiry
        self._unclaimed = missing()
        self._at = 0
        self._left: dict[int, None] | None = None
        self._taken: set[int] = set()
        self._seen: dict[str, tuple[int, float]] = {}

    def take(self) -> int | None:
        """Claim a part that nobody makes; None if there is none now. A part is taken once by one object.

        Parts that nobody claimed come before those of workers that are gone.
        """
        while (part := self._next_unclaimed()) is not None:
            if self._create(part, 0):
                return part
        return self._take_over()

    @property
    def others(self) -> int:
        """The number of parts that other workers make, after `take` has found none."""
        return len(self._left or ())

    def _next_unclaimed(self) -> int | None:
        """The first part from the last one on without a claim, if all claimed ones come before it."""
        parts, end = self._unclaimed, len(self._unclaimed)
        low = at = self._at
        step = 1
        while at < end and self._store.is_claimed(parts[at]):
            low, at, step = at + 1, at + step, 2 * step
        at = min(at, end)
        while low < at:
            middle = (low + at) // 2
            if self._store.is_claimed(parts[middle]):
                low = middle + 1
            else:
                at = middle
        self._at = at + 1
        return parts[at] if at < end else None

    def _take_over(self) -> int | None:
        """Claim what is left: parts that were passed over, and those of this worker's past and of workers that are gone."""
        if self._left is None:
            self._left = dict.fromkeys(self._missing())
        gone: dict[str, bool] = {}
        for part in list(self._left):
            if part in self._taken or self._is_sealed(part):
                del self._left[part]
            elif self._take_left(part, gone):
                return part
        return None

    def _take_left(self, part: int, gone: dict[str, bool]) -> bool:
        newest = self._store.newest(part)
        if newest is None:
            return self._create(part, 0)
        claim, owner = newest
        if owner == self._me:  # by an earlier process of this worker
            self._taken.add(part)
            return True
        if owner not in gone:
            gone[owner] = self._is_gone(owner)
        return gone[owner] and self._create(part, claim + 1)

    def _create(self, part: int, claim: int) -> bool:
        if not self._store.create(part, claim, self._me):
            return False
        self._taken.add(part)
        return not self._is_sealed(part)

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
    """Claims in the run's folder: in `claims`, or in the folder `path`, which is below it."""

    folder: RunFolder
    path: Path | None = None

    def is_claimed(self, part: int) -> bool:
        return os.path.lexists(self._path(part, 0))

    def newest(self, part: int) -> tuple[int, str] | None:
        found, number = None, 0
        while (owner := self._owner(self._path(part, number))) is not None:
            found, number = (number, owner), number + 1
        return found

    def create(self, part: int, claim: int, owner: str) -> bool:
        path = self._path(part, claim)
        with disk_errors("cannot create", path):
            fail_point("claim.before_link")
            try:
                path.symlink_to(owner)
            except FileNotFoundError:
                self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
                return self.create(part, claim, owner)
            except FileExistsError:
                # A server of files may lose its answer to the first request, and answer the repeated one.
                return self._owner(path) == owner
            fail_point("claim.after_link")
        return True

    def beat(self, owner: str) -> int | None:
        found = member(self.folder, owner)
        return None if found.has_ended or not found.content else found.beat

    def _path(self, part: int, claim: int) -> Path:
        return self._place / f"{part:05d}.{claim}"

    @property
    def _place(self) -> Path:
        return self.path or self.folder.claims

    def _owner(self, path: Path) -> str | None:
        with disk_errors("cannot read", path):
            try:
                return str(path.readlink())
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.EINVAL:  # not a link
                    raise
                raise StateError(
                    f"{path} is not a claim of the run", hint="Move it away."
                ) from error
