"""Copy a published run to object storage (`output.upload`): its files first, the manifest that names them last.

    s3://bucket/prefix/manifest.json              the newest run: its id, its folder, its files with sha256
    s3://bucket/prefix/RUN_ID-HASH/…              the files of the run folder, manifest.json included

A folder is never written with other content: its name has the hash of its manifest. So the commit is one conditional put of the
top manifest, and readers of an older one still find its files. Of two runs that publish to one address, the first one wins.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from batchgen.errors import BatchgenError, StateError
from batchgen.output.published_run import PublishedRun
from batchgen.progress import Reporter
from batchgen.state.bucket_run import FOLDER, MANIFEST
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.durable import sha256
from batchgen.storage.entries import exists
from batchgen.storage.failpoints import fail_point
from batchgen.storage.remote.bucket import Bucket, RemoteObject
from batchgen.storage.remote.bucket_errors import ConditionFailedError
from batchgen.storage.remote.object_url import ObjectUrl, parse_object_url


@dataclass(frozen=True, slots=True)
class TopManifest:
    """The manifest of an address: which run is published there."""

    run_id: str
    job: str
    folder: str
    object: RemoteObject


def read_top_manifest(bucket: Bucket, url: ObjectUrl) -> TopManifest | None:
    """The manifest of an address; None if there is none.

    Raises:
        StateError: it is not a manifest of batchgen.
    """
    found = bucket.read(url.child(MANIFEST).key)
    if found is None:
        return None
    try:
        content = json.loads(found[0])
        return TopManifest(content["run_id"], content["job"], content[FOLDER], found[1])
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"{url.child(MANIFEST)} is not the manifest of a run that output.upload published",
            hint="Choose another address, or delete it.",
        ) from error


@dataclass(frozen=True, slots=True)
class BucketPublication:
    """The upload of one run.

    Attributes:
        replaces: the id of the run that was published there when this one started; empty if there was none.
    """

    folder: RunFolder
    url: ObjectUrl
    bucket: Bucket
    run_id: str
    replaces: str

    def publish(self, reporter: Reporter) -> str:
        """Upload the files and then the manifest, and return the address of the run's folder. May be repeated.

        Raises:
            StateError: another run was published there since this one started.
            BatchgenError: the store does not answer, or rejects a request.
        """
        with _complete_here(self.folder):
            run = PublishedRun(self.folder)
            text = self.folder.manifest.read_bytes()
            name = f"{self.run_id}-{hashlib.sha256(text).hexdigest()[:8]}"
            target = self.url.child(name)
            top = read_top_manifest(self.bucket, self.url)
            if top is not None and top.folder == name:
                return str(target)
            self._check_replaceable(top)
            hashes = {file.name: file.sha256 for file in run.manifest.files}
            others = filter(exists, (self.folder.job, self.folder.report))
            hashes |= {path.name: sha256(path) for path in others}
            reporter.begin(f"uploading {len(hashes) + 1:,} files to {target}")
            for file, digest in hashes.items():
                self.bucket.upload(self.folder.path / file, target.child(file).key, digest)
                fail_point("upload.after_file")
            self.bucket.put_new(target.child(MANIFEST).key, text)
            fail_point("upload.before_manifest")
            self._commit(top, _top_content(run.manifest.content, name))
            fail_point("upload.after_manifest")
            return str(target)

    def _commit(self, top: TopManifest | None, content: bytes) -> None:
        try:
            if top is None:
                self.bucket.put_new(self.url.child(MANIFEST).key, content)
            else:
                self.bucket.replace(top.object, content)
        except ConditionFailedError:
            now = read_top_manifest(self.bucket, self.url)
            other = "another run" if now is None else f"run {now.run_id} of job {now.job}"
            raise StateError(
                f"{self.url}: {other} was published there during the upload; it stays",
                hint="Repeat the command with another output.upload.",
            ) from None

    def _check_replaceable(self, top: TopManifest | None) -> None:
        if top is not None and top.run_id not in (self.run_id, self.replaces):
            raise StateError(
                f"{self.url}: run {top.run_id} of job {top.job} was published there since this run started; it stays",
                hint="Repeat the command with another output.upload.",
            )


def open_publication(
    folder: RunFolder, address: str, *, run_id: str, job: str, reporter: Reporter
) -> BucketPublication:
    """Prepare the upload of a run, before its first row: bucket, credentials and the run that it will replace are checked.

    Raises:
        StateError: a run of another job is published at the address.
        BatchgenError: the store does not answer, or rejects the credentials.
    """
    url = parse_object_url(address)
    bucket = Bucket(url)
    record = folder.private / "upload.json"
    recorded = read_json(record) if exists(record) else {}
    if recorded.get("address") == address and recorded.get("run_id") == run_id:
        return BucketPublication(folder, url, bucket, run_id, recorded["replaces"])
    top = read_top_manifest(bucket, url)
    if top is not None and top.job != job:
        raise StateError(
            f"{url}: a run of job {top.job} is published there, not of {job}",
            hint="Choose another output.upload.",
        )
    if not bucket.honors_conditions(url.key):
        reporter.info(
            f"warning: the store of {url} ignores conditions of a put: of two runs that publish there at once, "
            "the second replaces the first"
        )
    replaces = top.run_id if top is not None else ""
    if not folder.is_complete_and_read_only:
        content = {"address": address, "run_id": run_id, "replaces": replaces}
        folder.write_json(record, content, stage="upload")
    return BucketPublication(folder, url, bucket, run_id, replaces)


def _top_content(manifest: Mapping[str, Any], name: str) -> bytes:
    """The manifest of the run, with its folder in the names of files."""
    files = [{**file, "name": f"{name}/{file['name']}"} for file in manifest["files"]]
    content = {**manifest, FOLDER: name, "files": files}
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()


@contextmanager
def _complete_here(folder: RunFolder) -> Iterator[None]:
    """Add to the errors of the block that the answers are published on this machine."""
    try:
        yield
    except BatchgenError as error:
        error.message = (
            f"{error.message}\n  All answers are in {folder.path}; the same command uploads only."
        )
        error.args = (error.message,)
        raise
