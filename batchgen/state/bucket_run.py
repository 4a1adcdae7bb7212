"""A run that `output.upload` published in object storage, for the commands that read one: copied to this machine first.

    s3://bucket/prefix             the run that its manifest.json names
    s3://bucket/prefix/RUN_ID-HASH  exactly this one

The copies are in $BATCHGEN_CACHE/runs, in folders that look like the output folder without its private part. Each file is
checked by its SHA-256. `verify` reads everything again, into a folder of its own.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.errors import AddressError, StateError, UsageError
from batchgen.state.run_folder import RunFolder
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.durable import disk_errors, open_private, temporary_name
from batchgen.storage.entries import exists
from batchgen.storage.remote.bucket import Bucket, store_endpoint
from batchgen.storage.remote.bucket_errors import ConditionFailedError
from batchgen.storage.remote.copies import use_copies
from batchgen.storage.remote.object_url import (
    ObjectUrl,
    is_object_url,
    parse_object_url,
)

MANIFEST = "manifest.json"
FOLDER = "folder"
"""Key of the manifest of an address: the folder of the run, relative to the address."""


def local_run(path: Path | str) -> Path:
    """The folder of a run on this machine: the path itself, or a checked copy of the run at an address.

    Raises:
        UsageError: the address is invalid, or no run is published there.
        StateError: a file is missing or damaged.
        BatchgenError: the store does not answer, or rejects the credentials.
    """
    if not is_object_url(path):
        return Path(path)
    run = _find_run(path)
    copies = cache_folder() / "runs"
    facts = "\n".join((store_endpoint(), str(run.url), hashlib.sha256(run.text).hexdigest()))
    copy = copies / hashlib.sha256(facts.encode()).hexdigest()[:32]
    use_copies(copies, [copy])
    folder = RunFolder(copy / run.url.key.rpartition("/")[2])
    if not exists(folder.manifest):
        for issue in run.download(folder.path):
            raise StateError(issue, hint="Run the job again: it uploads the run of its folder.")
        run.write_manifest(folder.path)
    return folder.path


def is_copy(path: Path) -> bool:
    """Whether a folder is such a copy, in which nothing is written."""
    return path.absolute().is_relative_to(cache_folder() / "runs")


@contextmanager
def fresh_copy(path: Path | str) -> Iterator[Path]:
    """The folder itself, or a new copy of the run at an address, damage included; deleted after the block."""
    if not is_object_url(path):
        yield Path(path)
        return
    run = _find_run(path)
    copies = cache_folder() / "runs"
    use_copies(copies, ())
    with tempfile.TemporaryDirectory(dir=copies) as folder:
        copy = Path(folder) / run.url.key.rpartition("/")[2]
        for _ in run.download(copy):
            pass  # the caller compares the files with the manifest
        run.write_manifest(copy)
        yield copy


@dataclass(frozen=True, slots=True)
class _BucketRun:
    """A published run; `text` is its manifest."""

    bucket: Bucket
    url: ObjectUrl
    text: bytes
    content: dict[str, Any]

    def download(self, target: Path) -> Iterator[str]:
        """Copy the files, and yield what is wrong with each that is missing or damaged."""
        hashes = {file["name"]: file["sha256"] for file in self.content["files"]}
        if (job := self.content.get("job_sha256")) is not None:
            hashes["job.yaml"] = job
        for name, expected in hashes.items():
            url = self.url.child(name)
            found = self.bucket.find(url.key)
            if found is None:
                yield f"{url} is missing"
                continue
            path = target / name
            with disk_errors("cannot write", path):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                temporary = temporary_name(path.parent)
                try:
                    digest = self.bucket.download(found, temporary)
                    temporary.replace(path)
                except ConditionFailedError:
                    yield f"{url} was replaced while it was read"
                    continue
                finally:
                    temporary.unlink(missing_ok=True)
            if digest != expected:
                yield f"{url} was changed or damaged after it was published"

    def write_manifest(self, target: Path) -> None:
        path = target / MANIFEST
        with disk_errors("cannot write", path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = temporary_name(target)
            with open_private(temporary) as file:
                file.write(self.text)
            temporary.replace(path)


def _find_run(path: Path | str) -> _BucketRun:
    try:
        url = parse_object_url(path)
    except AddressError as error:
        raise UsageError(error.message, hint=error.hint) from None
    bucket = Bucket(url)
    text, content = _read_manifest(bucket, url)
    if isinstance(folder := content.get(FOLDER), str):
        url = url.child(folder)
        text, content = _read_manifest(bucket, url)
    return _BucketRun(bucket, url, text, content)


def _read_manifest(bucket: Bucket, url: ObjectUrl) -> tuple[bytes, dict[str, Any]]:
    found = bucket.read(url.child(MANIFEST).key)
    if found is None:
        raise UsageError(
            f"{url} is not the address of a published run: it has no {MANIFEST}",
            hint="Give the address of output.upload, or a folder below it.",
        )
    try:
        content = json.loads(found[0])
        names = [file["name"] for file in content["files"]]
        usable = all(".." not in name.split("/") and not name.startswith("/") for name in names)
    except (ValueError, KeyError, TypeError, AttributeError):
        usable, content = False, {}
    if not usable:
        raise StateError(
            f"{url.child(MANIFEST)} is damaged, or is not the manifest of a run",
            hint="Run the job again: it uploads the run of its folder.",
        )
    return found[0], content
