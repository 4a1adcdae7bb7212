"""The link of a review, the same after a restart on one day: an open page continues without a new link.

    .batchgen/review.json   0600, in a folder of 0700: a secret, and the port

The token is a keyed hash of the queue by the secret: a page of another queue, whose numbers mean other answers, is rejected.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from batchgen.errors import BatchgenError
from batchgen.fingerprint import fingerprint
from batchgen.state.run_folder import RunFolder, read_json

LINK_SECONDS = 24 * 3600.0
"""After this time a start makes a new secret."""
_SECRET_BYTES = 24


@dataclass(frozen=True, slots=True)
class SavedLink:
    """The secret of links, and the port of the last one; 0 for any."""

    secret: str
    port: int = 0

    def token(self, queue: Mapping[str, object]) -> str:
        """The token of links to a queue."""
        digest = hmac.digest(self.secret.encode(), fingerprint(queue).encode(), hashlib.sha256)
        return digest.hex()[:32]


def link_path(run: RunFolder) -> Path:
    """The file with the link of a run."""
    return run.private / "review.json"


def read_link(run: RunFolder) -> SavedLink:
    """The link of an earlier start on this day, or a new one."""
    path = link_path(run)
    with suppress(OSError, BatchgenError, KeyError, ValueError):  # a new link takes its place
        found = path.stat()
        if not found.st_mode & 0o077 and 0 <= time.time() - found.st_mtime <= LINK_SECONDS:
            content = read_json(path)
            return SavedLink(str(content["secret"]), int(content["port"]))
    return SavedLink(secrets.token_urlsafe(_SECRET_BYTES))


def write_link(run: RunFolder, link: SavedLink) -> None:
    """Save a link. Where the private folder is gone or not writable, the next start has another link."""
    with suppress(OSError, BatchgenError):
        if run.private.is_dir() and read_link(run) != link:
            run.write_json(link_path(run), asdict(link), stage="review_link")
