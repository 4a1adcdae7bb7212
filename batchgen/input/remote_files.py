"""Input in object storage: objects found by address, prefix or glob, and copied to this machine before they are read.

    s3://bucket/day/*.jsonl ─list─> objects ─download, if this version is not here yet─> $BATCHGEN_CACHE/inputs/HASH/NAME

A copy is of one version of an object (ETag and size). An object that is replaced during the download is an error; one that is
replaced later is another version, whose rows a resumed run rejects. Copies that no start has used for 30 days are deleted.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path

from batchgen.errors import AddressError, DataError
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.durable import disk_errors, disk_full_error, temporary_name
from batchgen.storage.remote.bucket import Bucket, RemoteObject, store_endpoint
from batchgen.storage.remote.bucket_errors import ConditionFailedError
from batchgen.storage.remote.copies import use_copies
from batchgen.storage.remote.object_url import parse_object_url

_NAME_BYTES = 200


@dataclass(frozen=True, slots=True)
class ObjectMatch:
    """An object of the input; `name` and `is_explicit` as in `InputFile` and `PathMatch`."""

    object: RemoteObject
    name: str
    is_explicit: bool


def expand_url(text: str) -> list[ObjectMatch]:
    """The objects of an address, a prefix or a glob, sorted by key; names that begin with a dot or underscore are skipped.

    Raises:
        DataError: the address is invalid.
        BatchgenError: the store does not answer, or rejects the credentials.
    """
    try:
        url = parse_object_url(text)
    except AddressError as error:
        raise DataError(f"input.path: {error.message}", hint=error.hint) from None
    bucket = Bucket(url)
    if url.key and (exact := bucket.find(url.key)) is not None:
        return [ObjectMatch(exact, url.key.rpartition("/")[2], is_explicit=True)]
    parts = url.key.split("/") if url.key else []
    plain = next((i for i, part in enumerate(parts) if has_magic(part)), len(parts))
    root, patterns = "/".join(parts[:plain]), parts[plain:]
    matches = []
    for found in sorted(bucket.list(root), key=lambda one: one.url.key.split("/")):
        name = found.url.key.removeprefix(root).lstrip("/")
        explicit = _matches(name.split("/"), patterns)
        if name and explicit is not None:
            matches.append(ObjectMatch(found, name, explicit))
    return matches


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool | None:
    """Whether a key is what the patterns name (True), or below a prefix that they name (False); None if neither."""
    if not patterns:
        return None if any(_is_hidden(name) for name in names) else False
    for end in (len(names), *range(1, len(names))):
        if _fits(names[:end], patterns):
            below = names[end:]
            return None if any(_is_hidden(name) for name in below) else not below
    return None


def _fits(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether each name fits its pattern; `**` stands for any number of names."""
    if not patterns:
        return not names
    first, *rest = patterns
    if first == "**":
        return any(
            _fits(names[start:], rest)
            for start in range(len(names) + 1)
            if not any(_is_hidden(name) for name in names[:start])
        )
    if not names or not fnmatchcase(names[0], first):
        return False
    return (not _is_hidden(names[0]) or first.startswith(names[0][0])) and _fits(names[1:], rest)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def stage_objects(objects: Sequence[RemoteObject]) -> list[Path]:
    """A copy of each object on this machine.

    Raises:
        DataError: an object was replaced during the download.
        BatchgenError: the disk is full, or the store does not answer.
    """
    folder = cache_folder() / "inputs"
    copies = [folder / _version_key(one) / _file_name(one) for one in objects]
    missing = [pair for pair in zip(objects, copies, strict=True) if not _is_copy(*pair)]
    use_copies(folder, [copy.parent for copy in copies])
    needed = sum(one.size for one, _ in missing)
    if needed > (free := shutil.disk_usage(folder).free):
        why = f"{free / 1e6:,.0f} MB free, {needed / 1e6:,.0f} MB needed for copies of the input"
        raise disk_full_error("cannot write to", folder, why)
    for one, copy in missing:
        _download(one, copy)
    return copies


def _download(wanted: RemoteObject, copy: Path) -> None:
    """Give the copy its name when it is complete; another process may have been first."""
    with disk_errors("cannot write", copy):
        temporary = temporary_name(copy.parent)
        try:
            Bucket(wanted.url).download(wanted, temporary)
            # The same time for every copy: a run that another process copies the input for sees no change.
            os.utime(temporary, ns=(wanted.modified_ns, wanted.modified_ns))
            if not _is_copy(wanted, copy):
                temporary.replace(copy)
        except ConditionFailedError:
            raise DataError(
                f"{wanted.url}: was replaced or deleted while it was copied to this machine",
                hint="Run again. Write new input to new keys.",
            ) from None
        finally:
            temporary.unlink(missing_ok=True)


def _is_copy(wanted: RemoteObject, copy: Path) -> bool:
    try:
        found = copy.stat()
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (wanted.size, wanted.modified_ns)


def _version_key(one: RemoteObject) -> str:
    facts = (str(one.url), one.e_tag, one.version, str(one.size), str(one.modified_ns))
    return hashlib.sha256("\n".join((store_endpoint(), *facts)).encode()).hexdigest()[:32]


def _file_name(one: RemoteObject) -> str:
    """The last part of the key; its end if it is too long for a file system, since the end has the format."""
    return one.url.key.rpartition("/")[2].encode()[-_NAME_BYTES:].decode("utf-8", "ignore")
