"""One bucket: read, list, download, upload, and put an object on a condition.

A put is atomic: a reader gets a whole object or none. `put_new` and `replace` are the commits of object storage: they fail
if another process was first. An answer that was lost on the way is no failure: the object that exists has the same content.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from batchgen.errors import DataError
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

    @property
    def condition(self) -> Any:  # noqa: ANN401  # obstore's UpdateVersion
        """This version, as the one that a put replaces."""
        return {"e_tag": self.e_tag or None, "version": self.version or None}


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
