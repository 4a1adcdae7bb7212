"""One bucket: read, list, download, upload, and put an object on a condition.

A put is atomic: a reader gets a whole object or none. `put_new` and `replace` are the commits of object storage: they fail
if another process was first. An answer that was lost on the way is not a failure: the object that exists has the same content.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from batchgen.errors import DataError, ResourceError
from batchgen.storage.durable import disk_errors, open_private
from batchgen.storage.remote.bucket_errors import (
    ConditionFailedError,
    bucket_errors,
    no_such_bucket,
)
from batchgen.storage.remote.object_url import ObjectUrl

if TYPE_CHECKING:
    from obstore.store import ObjectStore

HASH = "sha256"
"""Key in the metadata of an object: the SHA-256 of its content."""
_CHUNK = 8 << 20
_MOST_PARTS = 9_000
"""Of a multipart upload; S3 allows 10,000."""
_CONFLICT_PAUSES = (0.05, 0.2, 0.8, 2.0)
"""Seconds before the same put is tried again."""
_MAX_RETRIES = 6
_RETRY_SECONDS = 60
_ENDPOINTS = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"),
    *("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"),
    "GOOGLE_BASE_URL",
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """One version of an object.

    Attributes:
        e_tag: identifies the version; empty if the store has none.
        modified_ns: nanoseconds since 1970.
    """

    url: ObjectUrl
    size: int
    e_tag: str
    modified_ns: int
    version: str = ""


def store_endpoint() -> str:
    """The variables of the environment that choose a store: buckets of two stores can have one name."""
    return " ".join(f"{name}={os.environ[name]}" for name in _ENDPOINTS if name in os.environ)


class Bucket:
    """A bucket, with the credentials of the environment; errors are those of `bucket_errors`."""

    def __init__(self, url: ObjectUrl) -> None:
        """Connect to nothing yet.

        Raises:
            DataError: the extra `objects` is not installed.
        """
        self.url = ObjectUrl(url.scheme, url.bucket, "")
        try:
            import obstore
        except ImportError as error:
            raise DataError(
                f"{url}: object storage needs the extra `objects`",
                hint="Install the extra: pip install 'batchgen-llm[objects]'.",
            ) from error
        self._obstore = obstore
        with bucket_errors("cannot open", url):
            self._store = _open_store(url)

    def find(self, key: str) -> RemoteObject | None:
        """The object with exactly this key."""
        url = self._at(key)
        try:
            with bucket_errors("cannot read", url):
                return self._object(self._obstore.head(self._store, key))
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[RemoteObject]:
        """All objects below a prefix, whose last part is whole. Those of no size whose key ends in a slash are left out."""
        url = self._at(prefix)
        try:
            with bucket_errors("cannot list", url):
                for batch in self._obstore.list(self._store, prefix=prefix or None):
                    yield from (self._object(one) for one in batch)
        except FileNotFoundError:
            raise no_such_bucket("cannot list", url) from None

    def read(self, key: str) -> tuple[bytes, RemoteObject] | None:
        """Content and version of a small object; None if there is none."""
        try:
            with bucket_errors("cannot read", self._at(key)):
                got = self._obstore.get(self._store, key)
                return bytes(got.bytes()), self._object(got.meta)
        except FileNotFoundError:
            return None

    def download(self, wanted: RemoteObject, target: Path) -> str:
        """Write this version of an object to a new file, and return its SHA-256.

        Raises:
            ConditionFailedError: the object is now another version, or is gone.
        """
        digest, size, url = hashlib.sha256(), 0, wanted.url
        options: Any = {"if_match": wanted.e_tag} if wanted.e_tag else {}
        with disk_errors("cannot write", target), open_private(target) as file:
            chunks = self._chunks(url, options)
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if size != wanted.size:
            raise ConditionFailedError(str(url))
        return digest.hexdigest()

    def _chunks(self, url: ObjectUrl, options: Any) -> Iterator[memoryview]:  # noqa: ANN401  # obstore's GetOptions
        try:
            with bucket_errors("cannot read", url):
                got = self._obstore.get(self._store, url.key, options=options)
                for chunk in got.stream(min_chunk_size=_CHUNK):
                    yield memoryview(chunk)
        except FileNotFoundError:
            raise ConditionFailedError(str(url)) from None

    def put_new(self, key: str, content: bytes) -> None:
        """Create an object; the same content again is not an error, such as after a lost answer.

        Raises:
            ConditionFailedError: an object with other content exists.
        """
        self._put(key, content, None)

    def put(self, key: str, content: bytes) -> None:
        """Write a small object, whatever is there."""
        self._put_once(key, content, "overwrite")

    def replace(self, old: RemoteObject, content: bytes) -> None:
        """Replace one version of an object; ConditionFailedError if it is another version with other content."""
        self._put(old.url.key, content, old)

    def _put(self, key: str, content: bytes, old: RemoteObject | None) -> None:
        """Put on the condition that the object is the `old` one, or that there is none."""
        mode: Any = "create" if old is None else _version_of(old)
        pauses = iter(_CONFLICT_PAUSES)
        while not self._put_once(key, content, mode):
            found = self.read(key)
            if found is not None and found[0] == content:
                return  # the answer to an earlier try was lost
            # S3 answers 409 while another put is at work: the object may be unchanged after it.
            unchanged = (found and found[1].e_tag) == (old and old.e_tag)
            pause = next(pauses, None)
            if pause is None or not unchanged:
                raise ConditionFailedError(str(self._at(key)))
            time.sleep(pause)

    def _put_once(self, key: str, content: bytes, mode: Any) -> bool:  # noqa: ANN401  # obstore's PutMode
        """Whether the condition held."""
        attributes = {HASH: hashlib.sha256(content).hexdigest()}
        try:
            with self._write_errors(key):
                self._obstore.put(
                    self._store, key, content, mode=mode, attributes=attributes, use_multipart=False
                )
        except ConditionFailedError:
            return False
        return True

    def upload(self, path: Path, key: str, digest: str) -> None:
        """Write a file to an object, which no other process writes with other content. `digest` is its SHA-256.

        Nothing is sent if the object has this content already.

        Raises:
            ResourceError: the object has another size afterwards.
        """
        size = path.stat().st_size
        if self.stored(key) == (size, digest):
            return
        with self._write_errors(key):
            self._obstore.put(
                self._store,
                key,
                path,
                attributes={HASH: digest},
                chunk_size=max(_CHUNK, size // _MOST_PARTS + 1),
                max_concurrency=4,
            )
        if (found := self.find(key)) is None or found.size != size:
            raise ResourceError(
                f"{self._at(key)} does not have the {size:,} bytes that were written to it",
                hint="Check the store, then repeat the command.",
            )

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        with suppress(FileNotFoundError), bucket_errors("cannot delete", self._at(key)):
            self._obstore.delete(self._store, key)

    def honors_conditions(self, prefix: str) -> bool:
        """Whether the store refuses to create an object that exists. Writes and deletes an object below the prefix."""
        key = f"{prefix}/.probe-{uuid4().hex}".lstrip("/")
        self.put_new(key, b"1")
        try:
            self.put_new(key, b"2")
        except ConditionFailedError:
            return True
        finally:
            self.delete(key)
        return False

    @contextmanager
    def _write_errors(self, key: str) -> Iterator[None]:
        url = self._at(key)
        try:
            with bucket_errors("cannot write", url):
                yield
        except FileNotFoundError:
            raise no_such_bucket("cannot write", url) from None

    def stored(self, key: str) -> tuple[int, str] | None:
        """Size and recorded hash of an object."""
        try:
            with bucket_errors("cannot read", self._at(key)):
                got = self._obstore.get(self._store, key, options={"head": True})
                return got.meta["size"], str(got.attributes.get(HASH, ""))
        except FileNotFoundError:
            return None

    def _at(self, key: str) -> ObjectUrl:
        return ObjectUrl(self.url.scheme, self.url.bucket, key)

    def _object(self, meta: Any) -> RemoteObject:  # noqa: ANN401  # obstore's ObjectMeta
        return RemoteObject(
            url=self._at(meta["path"]),
            size=meta["size"],
            e_tag=meta["e_tag"] or "",
            modified_ns=int(meta["last_modified"].timestamp()) * 10**9,
            version=meta.get("version") or "",
        )


def _version_of(old: RemoteObject) -> Any:  # noqa: ANN401  # obstore's PutMode
    named = {"e_tag": old.e_tag, "version": old.version}
    return {name: value for name, value in named.items() if value}


def _open_store(url: ObjectUrl) -> "ObjectStore":
    from obstore.store import AzureStore, GCSStore, S3Store

    kinds: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    options: dict[str, Any] = {"connect_timeout": "10s"}
    if _is_loopback():
        options["allow_http"] = True
    retries = {"max_retries": _MAX_RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)}
    store: ObjectStore = kinds[url.scheme](url.bucket, client_options=options, retry_config=retries)
    return store


def _is_loopback() -> bool:
    """Whether the environment names an endpoint on this machine, to which unencrypted data may go."""
    hosts = [urlsplit(os.environ[name]).hostname for name in _ENDPOINTS if name in os.environ]
    return any(host in _LOOPBACK for host in hosts)
