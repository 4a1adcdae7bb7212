"""The link of a review, the same after a restart on one day: an open page continues without a new link.

    .batchgen/review.json   0600, in a folder of 0700: a secret, and the ports of each queue

The token is a keyed hash of the queue by the secret: a page of another queue, whose numbers mean other answers, is rejected.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from batchgen.errors import BatchgenError
from batchgen.fingerprint import fingerprint
from batchgen.state.run_folder import RunFolder, read_json

LINK_SECONDS = 24 * 3600.0
"""After this time a start makes a new secret."""
_SECRET_BYTES = 24
_MAX_PORTS = 8


@dataclass(frozen=True, slots=True)
class SavedLink:
    """The secret of links.

    Attributes:
        ports: of earlier links by queue; two servers of one queue have two.
        last: the port of the last link; 0 without one.
    """

    secret: str
    ports: Mapping[str, Sequence[int]] = field(default_factory=dict)
    last: int = 0

    def token(self, queue: Mapping[str, object]) -> str:
        """The token of links to a queue."""
        digest = hmac.digest(self.secret.encode(), fingerprint(queue).encode(), hashlib.sha256)
        return digest.hex()[:32]

    def known_ports(self, token: str) -> list[int]:
        """Ports that pages may still be open on: those of the same queue, then the last one of any queue."""
        own = [*self.ports.get(_name(token), ()), *([self.last] if self.last else [])]
        return list(dict.fromkeys(own))

    def served(self, token: str, port: int) -> "SavedLink":
        """The same with a port of a token."""
        own = list(dict.fromkeys([*self.ports.get(_name(token), ()), port]))
        return replace(self, ports={**self.ports, _name(token): own[-_MAX_PORTS:]}, last=port)


def _name(token: str) -> str:
    """A name of a queue that does not open its page."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def link_path(run: RunFolder) -> Path:
    """The file with the link of a run."""
    return run.private / "review.json"


def read_link(run: RunFolder) -> SavedLink:
    """The link of an earlier start on this day, or a new one."""
    path = link_path(run)
    with suppress(
        OSError, BatchgenError, KeyError, ValueError, AttributeError, TypeError
    ):  # a new link takes its place
        found = path.stat()
        if not found.st_mode & 0o077 and 0 <= time.time() - found.st_mtime <= LINK_SECONDS:
            content = read_json(path)
            ports = {str(k): [int(one) for one in v] for k, v in content["ports"].items()}
            return SavedLink(str(content["secret"]), ports, int(content["last"]))
    return SavedLink(secrets.token_urlsafe(_SECRET_BYTES))


def write_link(run: RunFolder, link: SavedLink) -> None:
    """Save a link. Where the private folder is gone or not writable, the next start has another link."""
    with suppress(OSError, BatchgenError):
        if run.private.is_dir() and read_link(run) != link:
            run.write_json(link_path(run), asdict(link), stage="review_link")
