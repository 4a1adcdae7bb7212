"""Shards whose parts are in object storage (`output.upload_parts`): machines that share no disk.

    PREFIX/.batchgen/RUN_ID/00012.bgpart              a sealed part, put on the condition that there is none
    PREFIX/.batchgen/RUN_ID/claims/00012.0            a claim: the name of a worker, put on the same condition
    PREFIX/.batchgen/RUN_ID/shards/any-HOST-0-X.json  a member: its engine, its parts, and a beat that rises while it lives
    PREFIX/.batchgen/RUN_ID/shards/versions.json      the versions of the libraries that decide the answers

Lock, journal and open parts of each machine are in its own folder. All is deleted when the run is published.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pyarrow as pa

from batchgen.errors import BatchgenError
from batchgen.state.bucket_state import BucketPartStore, BucketState
from batchgen.state.parts import SealedPart, count_part
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.members import ShardMember, check_same_versions
from batchgen.storage.entries import exists
from batchgen.storage.remote.bucket_errors import ConditionFailedError


class SharedBucketParts(BucketPartStore):
    """Parts of which each is put once, by the machine that is first; those of other machines stay where they are."""

    def __init__(
        self, folder: RunFolder, state: BucketState, run_id: str, *, compression: str
    ) -> None:
        url = state.url.child(run_id)
        super().__init__(folder, compression=compression, bucket=state.bucket, url=url)
        self._state = state
        self._run_id = run_id

    def seal(self, number: int, table: pa.Table) -> SealedPart:
        """Seal a part as `BucketPartStore.seal` does; one that was sealed here before a kill is put again."""
        if self._commit(number, table):
            return self._share(self._record(number, count_part(table)))
        return self._share(self._recorded(self._path(number)))

    def numbers(self) -> set[int]:
        """The numbers of the parts in the bucket."""
        return set(self._listed())

    def is_sealed(self, number: int) -> bool:
        """Whether a part is in the bucket, or the run is published, so that none is there."""
        sealed = self._bucket.find(self._key(number)) is not None
        return sealed or not self._state.holds(self._run_id)

    def recorded(self, numbers: Iterable[int]) -> dict[int, SealedPart]:
        """Those of these parts that this machine has a copy of."""
        paths = ((number, self._path(number)) for number in numbers)
        return {number: self._recorded(path) for number, path in paths if exists(path)}

    def fetch(self, number: int) -> SealedPart:
        """A sealed part, of which this machine then has a copy.

        Raises:
            StateError: it is damaged, or has been deleted, as when the run was published.
        """
        if exists(path := self._path(number)):
            return self._recorded(path)
        return self._take_sealed(number)


@dataclass(frozen=True, slots=True)
class BucketClaims:
    """Claims as objects, in the folder `place` of a run."""

    state: BucketState
    run_id: str
    place: str = "claims"

    def is_claimed(self, part: int) -> bool:
        return self.state.bucket.find(self._key(part, 0)) is not None

    def newest(self, part: int) -> tuple[int, str] | None:
        found, number = None, 0
        while (read := self.state.bucket.read(self._key(part, number))) is not None:
            found, number = (number, read[0].decode()), number + 1
        return found

    def create(self, part: int, claim: int, owner: str) -> bool:
        try:
            self.state.bucket.put_new(self._key(part, claim), owner.encode())
        except ConditionFailedError:
            return False
        return True

    def beat(self, owner: str) -> int | None:
        content = read_member(self.state, self.run_id, owner)
        return None if content is None or content.get("ended") else int(content["beat"])

    def _key(self, part: int, claim: int) -> str:
        return self.state.url.child(f"{self.run_id}/{self.place}/{part:05d}.{claim}").key


@dataclass(slots=True)
class BucketMember:
    """This process among the members of a run in a bucket. Two machines may have one name: that of a process is its own."""

    state: BucketState
    run_id: str
    member: ShardMember
    name: str = ""
    _beat: int = 0

    def __post_init__(self) -> None:
        self.name = f"{self.member.name}-{uuid4().hex[:8]}"

    @contextmanager
    def shown(self, versions: Mapping[str, str | None], seconds: float) -> Iterator[None]:
        """Be a member while the block runs, and show a sign of life every so many seconds.

        Raises:
            StateError: the other members had other versions.
        """
        self._check_versions(versions)
        self.show()
        done = threading.Event()
        beating = threading.Thread(target=self._show_life, args=(done, seconds), daemon=True)
        beating.start()
        try:
            yield
        finally:
            done.set()
            beating.join()
            with suppress(BatchgenError):  # others then wait until its claims expire
                self.show(ended=True)

    def show(self, **facts: object) -> None:
        """Write what this member has recorded in its folder."""
        self._beat += 1
        content = {**self.member.content, "beat": self._beat, **facts}
        text = json.dumps(content, ensure_ascii=False, default=str).encode()
        self.state.bucket.put(_member_key(self.state, self.run_id, self.name), text)

    def _show_life(self, done: threading.Event, seconds: float) -> None:
        while not done.wait(seconds):
            with suppress(
                BatchgenError
            ):  # a lasting fault stops the run when it seals its next part
                self.show()

    def _check_versions(self, mine: Mapping[str, str | None]) -> None:
        url = self.state.url.child(f"{self.run_id}/shards/versions.json")
        text = json.dumps(dict(mine), sort_keys=True).encode()
        with suppress(ConditionFailedError):
            self.state.bucket.put_new(url.key, text)
            return
        if (found := self.state.bucket.read(url.key)) is not None:
            check_same_versions(mine, json.loads(found[0]), str(self.state.url))


def read_member(state: BucketState, run_id: str, name: str) -> dict[str, Any] | None:
    """What a member has shown; None if there is no such member."""
    found = state.bucket.read(_member_key(state, run_id, name))
    return None if found is None else dict(json.loads(found[0]))


def read_members(state: BucketState, run_id: str) -> list[dict[str, Any]]:
    """What all members of a run have shown, by name."""
    return [content for _, content in _members(state, run_id)]


def record_bucket_end(state: BucketState, run_id: str, host: str, process: int) -> None:
    """Record that the process of a member is gone, so that its claims are free at once. One that lives shows itself again."""
    for name, content in _members(state, run_id):
        if (content.get("host"), content.get("pid")) == (host, process):
            text = json.dumps({**content, "ended": True}, ensure_ascii=False).encode()
            state.bucket.put(_member_key(state, run_id, name), text)


def _members(state: BucketState, run_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    listed = state.bucket.list(state.url.child(f"{run_id}/shards").key)
    names = sorted(one.url.key.rpartition("/")[2].removesuffix(".json") for one in listed)
    for name in names:
        found = None if name == "versions" else read_member(state, run_id, name)
        if found is not None:
            yield name, found


def _member_key(state: BucketState, run_id: str, name: str) -> str:
    return state.url.child(f"{run_id}/shards/{name}.json").key
