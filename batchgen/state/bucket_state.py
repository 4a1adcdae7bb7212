"""The state of an unfinished run in object storage (`output.upload_parts`): another machine resumes it there.

    s3://bucket/prefix/.batchgen/run.json               which run is at work: created once, like run.json in a folder
    s3://bucket/prefix/.batchgen/RUN_ID/00012.bgpart    a sealed part; created once: the conditional put is the commit

Journal, lock and open parts stay in the local folder. Two machines may compute one part; the first to put it wins, and the other
takes over its answers. All is deleted when the run is published.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from batchgen.errors import ResourceError, StateError
from batchgen.fingerprint import fingerprint
from batchgen.job.spec import Output
from batchgen.state.identity import Identity, check_same_run, identity_of
from batchgen.state.parts import PartStore, SealedPart, count_part, read_part
from batchgen.state.run_folder import CHECK, RunFolder
from batchgen.storage.durable import disk_errors, replace_durably, temporary_name
from batchgen.storage.remote.bucket import Bucket, RemoteObject
from batchgen.storage.remote.bucket_errors import ConditionFailedError
from batchgen.storage.remote.object_url import ObjectUrl, parse_object_url

Join = Callable[[Identity | None, Identity], Identity]
"""Given the run in the folder, if any, and a new one: the run that is at work in object storage."""


@dataclass(frozen=True, slots=True)
class BucketState:
    """The state of the run at an address."""

    bucket: Bucket
    url: ObjectUrl

    @property
    def _run(self) -> ObjectUrl:
        return self.url.child("run.json")

    def join(
        self, folder: RunFolder, local: Identity | None, now: Identity, *, fresh: bool
    ) -> Identity:
        """The identity of the run at work: that of the address, or a new one, which is then noted there.

        Args:
            folder: for messages.
            local: the run that the local folder holds.
            now: the identity of a run that starts now.
            fresh: whether to replace the run that is at work there.

        Raises:
            StateError: the run there is of another job or input, or is not the one of the local folder.
        """
        wanted, found = local or now, self._read()
        if found is None or fresh:
            try:
                self._write(wanted, None if found is None else found[1])
            except ConditionFailedError:
                found = self._read()  # another machine was first
            else:
                return wanted
        if found is None:
            raise _moved(self.url)
        there = found[0]
        self._check_same(folder, there, local, now)
        return there

    def _check_same(
        self, folder: RunFolder, there: Identity, local: Identity | None, now: Identity
    ) -> None:
        if local is not None and there.run_id != local.run_id:
            raise StateError(
                f"{self.url} holds the unfinished run {there.run_id}, but {folder.path} the run {local.run_id}",
                hint="Choose another output.upload, or start over with --fresh, which replaces both.",
            )
        try:
            check_same_run(folder, there, now)
        except StateError as error:
            error.message = error.message.replace(str(folder.path), str(self.url))
            error.args = (error.message,)
            raise

    def _read(self) -> tuple[Identity, RemoteObject] | None:
        found = self.bucket.read(self._run.key)
        if found is None:
            return None
        try:
            content = json.loads(found[0])
            if content.pop(CHECK, None) == fingerprint(content):
                return identity_of(content), found[1]
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise StateError(f"{self._run} is damaged", hint="Start over with --fresh, or delete it.")

    def _write(self, identity: Identity, old: RemoteObject | None) -> None:
        content = identity.content()
        text = json.dumps({**content, CHECK: fingerprint(content)}, ensure_ascii=False).encode()
        if old is None:
            self.bucket.put_new(self._run.key, text)
        else:
            self.bucket.replace(old, text)

    def holds(self, run_id: str) -> bool:
        """Whether this run is at work there, and not published."""
        found = self._read()
        return found is not None and found[0].run_id == run_id

    @property
    def is_begun(self) -> bool:
        return self._read() is not None

    def part_store(self, folder: RunFolder, run_id: str, *, compression: str) -> "BucketPartStore":
        url = self.url.child(run_id)
        return BucketPartStore(folder, compression=compression, bucket=self.bucket, url=url)

    def delete(self, run_id: str) -> None:
        """Delete the state of a run that is published."""
        if self.holds(run_id):
            self.bucket.delete(self._run.key)
        for part in list(self.bucket.list(self.url.child(run_id).key)):
            self.bucket.delete(part.url.key)


class BucketPartStore(PartStore):
    """The sealed parts of a run whose commit point is in object storage; the local ones are copies."""

    def __init__(
        self, folder: RunFolder, *, compression: str, bucket: Bucket, url: ObjectUrl
    ) -> None:
        super().__init__(folder, compression=compression)
        self._scratch = folder.scratch
        self._bucket = bucket
        self._url = url

    def seal(self, number: int, table: pa.Table) -> SealedPart:
        """As `PartStore.seal`; the part that another machine put first is taken over instead.

        Raises:
            BatchgenError: the store does not answer, or rejects the credentials; the part is sealed on this machine.
        """
        return self._share(super().seal(number, table))

    def replace(self, part: SealedPart, table: pa.Table) -> SealedPart:
        new = super().replace(part, table)
        self._bucket.upload(new.path, self._key(new.number), new.sha256)
        return new

    def discard(self, part: SealedPart) -> None:
        super().discard(part)
        self._bucket.delete(self._key(part.number))

    def sealed(self) -> dict[int, SealedPart]:
        """The parts of both places, by number; what is only in one of them is copied to the other."""
        local = super().sealed()
        remote = self._listed()
        for number in remote.keys() - local.keys():
            local[number] = self._take(number, remote[number])
        for number, part in local.items():
            if number not in remote:
                local[number] = self._share(part)
            elif self._bucket.stored(self._key(number)) != (part.path.stat().st_size, part.sha256):
                local[number] = self._take(number, remote[number])
        return local

    def _share(self, part: SealedPart) -> SealedPart:
        try:
            self._bucket.put_new(self._key(part.number), part.path.read_bytes())
        except ConditionFailedError:
            return self._take_sealed(part.number)
        return part

    def _take_sealed(self, number: int) -> SealedPart:
        """Copy a part that is in the bucket."""
        found = self._bucket.find(self._key(number))
        if found is None:
            raise _moved(self._url)
        return self._take(number, found)

    def _take(self, number: int, remote: RemoteObject) -> SealedPart:
        """Replace the local part by the one of the bucket."""
        temporary = temporary_name(self._scratch)
        with disk_errors("cannot save a part of the answers to", self._scratch):
            try:
                digest = self._bucket.download(remote, temporary)
                stored = self._bucket.stored(remote.url.key)
                if stored is None or stored[1] != digest:
                    raise StateError(
                        f"{remote.url} is damaged: its sha256 differs from the one recorded when it was sealed",
                        hint="Delete that object to have its rows generated again, or start over with --fresh.",
                    )
                return self._adopt(number, temporary)
            except ConditionFailedError:
                raise _moved(self._url) from None
            finally:
                temporary.unlink(missing_ok=True)

    def _adopt(self, number: int, file: Path) -> SealedPart:
        """Make a whole, synced file the part of this number, in place of the one that is there, if any."""
        target = self._path(number)
        target.with_suffix(".json").unlink(missing_ok=True)
        replace_durably(file, target, stage="part", mode=0o600)
        return self._record(number, count_part(read_part(target)))

    def _listed(self) -> Mapping[int, RemoteObject]:
        listed = {one.url.key.rpartition("/")[2]: one for one in self._bucket.list(self._url.key)}
        return {
            int(name.removesuffix(".bgpart")): one
            for name, one in listed.items()
            if name.endswith(".bgpart")
        }

    def _key(self, number: int) -> str:
        return self._url.child(f"{number:05d}.bgpart").key


@dataclass(frozen=True, slots=True)
class PartsHome:
    """Where the parts of a run are committed: in its folder, or at the address of `output.upload`."""

    folder: RunFolder
    compression: str
    state: BucketState | None = None
    fresh: bool = False

    def join(self, local: Identity | None, now: Identity) -> Identity:
        """See `BucketState.join`; without an address, the run of the folder or the new one."""
        if self.state is None or (local is not None and self.folder.complete):
            return local or now
        return self.state.join(self.folder, local, now, fresh=self.fresh)

    def store(self, run_id: str) -> PartStore:
        if self.state is None:
            return PartStore(self.folder, compression=self.compression)
        return self.state.part_store(self.folder, run_id, compression=self.compression)

    def clear(self, run_id: str) -> None:
        """Delete the state in the bucket, once the run is published."""
        if self.state is not None:
            self.state.delete(run_id)


def open_parts_home(folder: RunFolder, output: Output, *, fresh: bool) -> PartsHome:
    """Where the parts of a job are committed; `fresh` replaces the run that is at work at the address.

    Raises:
        ResourceError: the store ignores conditions of a put, so that two machines could overwrite each other's parts.
    """
    if output.upload is None or not output.upload_parts:
        return PartsHome(folder, output.compression)
    url = parse_object_url(output.upload).child(".batchgen")
    bucket = Bucket(url)
    if not bucket.honors_conditions(url.key):
        raise ResourceError(
            f"{url}: the store ignores conditions of a put (If-None-Match): parts are not safe there",
            hint="Set output.upload_parts: false, or use a store that supports conditional writes.",
        )
    return PartsHome(folder, output.compression, BucketState(bucket, url), fresh)


def _moved(url: ObjectUrl) -> StateError:
    return StateError(
        f"{url} was changed or deleted by another process",
        hint="If another machine has published the run, nothing is left to do; otherwise run again.",
    )
