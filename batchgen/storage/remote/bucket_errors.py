"""Errors of object stores, as errors of batchgen: what is wrong, where, and whether another start can help.

The text of a store's error is never shown: it can contain key ids and signatures. Only its code, such as `AccessDenied`, and the
HTTP status are.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from batchgen.errors import BatchgenError, ResourceError, UnavailableError
from batchgen.storage.remote.object_url import ObjectUrl

_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_DENIED = frozenset(
    (
        *("AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken"),
        *("SignatureDoesNotMatch", "TokenRefreshRequired", "RequestTimeTooSkewed"),
        *("AuthenticationFailed", "ExpiredTokenException"),
    )
)
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, with AWS_SESSION_TOKEN if they are temporary "
    "(for a profile: `aws configure export-credentials --format env`)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}
_ENDPOINT = {
    "s3": "AWS_ENDPOINT_URL and AWS_REGION",
    "gs": "GOOGLE_BASE_URL",
    "az": "AZURE_ENDPOINT",
}

_METADATA_HOSTS = ("169.254.169.254", "metadata.google.internal")
"""Where a provider's own machines get credentials."""
_PASSING = ("408", "409", "429")
"""Answers after which the same request may succeed, in addition to 5xx."""


class ConditionFailedError(Exception):
    """The object exists already, or is another version than the one to replace."""


@contextmanager
def bucket_errors(action: str, url: ObjectUrl) -> Iterator[None]:
    """Translate the errors of obstore in the block; FileNotFoundError (no such object) and a failed condition are the caller's.

    `action` begins the message, such as "cannot read".
    """
    from obstore import exceptions

    try:
        yield
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
        raise ConditionFailedError(str(url)) from None
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
            raise no_such_bucket(action, url) from None
        raise
    except (exceptions.BaseError, ValueError, OSError) as error:
        # Not as the cause: the text of a store can contain key ids.
        raise _translated(action, url, str(error)) from None


def no_such_bucket(action: str, url: ObjectUrl) -> BatchgenError:
    """The error for a bucket that does not exist."""
    return ResourceError(
        f"{action} {url}: the bucket {url.bucket} does not exist",
        hint=_check_store(url),
    )


def _translated(action: str, url: ObjectUrl, text: str) -> BatchgenError:
    code, status = _first(_CODE, text), _first(_STATUS, text)
    if code == "NoSuchBucket":
        return no_such_bucket(action, url)
    answer = " ".join(filter(None, (status and f"HTTP {status}", code))) or "no answer"
    passes = not status or status.startswith("5") or status in _PASSING
    kind, problem, hint = (
        (UnavailableError, f"the store is unavailable ({answer})", _later(url))
        if passes
        else (ResourceError, f"the store rejected the request ({answer})", _check_store(url))
    )
    if any(host in text for host in _METADATA_HOSTS):
        kind, problem, hint = ResourceError, "no credentials in the environment", _credentials(url)
    elif code in _DENIED or status in ("401", "403"):
        kind, hint = ResourceError, f"{_credentials(url)} Then repeat the command; it continues."
        problem = f"the store rejected the credentials or the access ({answer})"
    elif "BadScheme" in text:
        kind, hint = ResourceError, "Use https://, or set AWS_ALLOW_HTTP=true."
        problem = "the endpoint is http://, which sends data unencrypted"
    return kind(f"{action} {url}: {problem}", hint=hint)


def _later(url: ObjectUrl) -> str:
    return (
        f"Repeat the command later. If the store is another one: {_ENDPOINT[url.scheme]} choose it."
    )


def _check_store(url: ObjectUrl) -> str:
    return f"Check the bucket, and the store: {_ENDPOINT[url.scheme]} choose it."


def _credentials(url: ObjectUrl) -> str:
    return f"Set {_CREDENTIALS[url.scheme]} in the environment."


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""
