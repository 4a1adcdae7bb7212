"""Addresses of objects: `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `az://CONTAINER/KEY`.

An address never contains a secret: user, password and signature are rejected. The account, the endpoint and the credentials
come from the environment, as each provider names them.
"""

import re
from dataclasses import dataclass
from pathlib import PurePath

from batchgen.errors import AddressError

SCHEMES = ("s3", "gs", "az")
_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)}):/+(.*)", re.DOTALL | re.IGNORECASE)
_SECRET = re.compile(
    r"[?&](X-Amz-|X-Goog-|sig=|sv=|Signature=|AWSAccessKeyId=|GoogleAccessId=)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """An address. `key` has no slash at its ends; it is empty for a whole bucket, and may be a glob."""

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    def child(self, name: str) -> "ObjectUrl":
        return ObjectUrl(self.scheme, self.bucket, f"{self.key}/{name}" if self.key else name)


def is_object_url(path: str | PurePath) -> bool:
    """Whether a path is the address of an object. A `Path` of an address has lost one of its slashes."""
    return _ADDRESS.fullmatch(str(path)) is not None


def parse_object_url(path: str | PurePath) -> ObjectUrl:
    """Read an address.

    Raises:
        AddressError: it contains a secret, or no object can have it.
    """
    found = _ADDRESS.fullmatch(str(path))
    if found is None:
        raise AddressError("not an address of an object", "Write s3://BUCKET/KEY, gs:// or az://.")
    bucket, _, key = found[2].partition("/")
    key = key.strip("/")
    if "@" in bucket or ":" in bucket or _SECRET.search(key):
        raise AddressError(
            "the address contains credentials",
            "Write only the bucket and the key. Give credentials in the environment, such as AWS_ACCESS_KEY_ID.",
        )
    if not re.fullmatch(r"[A-Za-z0-9$][A-Za-z0-9._-]+", bucket):
        raise AddressError(
            f"{bucket!r} is not the name of a bucket", "Write s3://BUCKET/KEY, gs:// or az://."
        )
    if any(part in ("", ".", "..") for part in key.split("/")) and key:
        raise AddressError(
            "the key has an empty part, or one of only dots", "Write the key without //, . and .. ."
        )
    return ObjectUrl(found[1].lower(), bucket, key)
