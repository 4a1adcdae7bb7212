"""What is put in the place of personal data: a placeholder, a keyed hash, or a mask.

    placeholder   [EMAIL]                 the same for all: nothing can be told from it
    hash          [EMAIL:k5qz2m7ady3vx]   the same for the same value, and only whoever has the secret can compute it
    mask          j***@example.com        the end of a number, the domain of a mail address, the network of an IPv4 one

A text that went through once stays as it is the second time. Knows nothing of jobs, rows or files.
"""

import base64
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from batchgen.privacy.entities import find_pii
from batchgen.privacy.normalize import normalize_text
from batchgen.privacy.recognizers import PiiKind

Substitute = Callable[[PiiKind, str], str]
"""What stands for a finding, given its kind and its characters."""


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A text without personal data, and how many findings of each kind it had."""

    text: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Redactor:
    """Takes personal data of some kinds out of texts."""

    kinds: Collection[PiiKind]
    substitute: Substitute

    def redact(self, text: str) -> RedactedText:
        """The text with each finding replaced."""
        findings = find_pii(text, self.kinds)
        if not findings:
            return RedactedText(text, {})
        pieces: list[str] = []
        at = 0
        for one in findings:
            pieces += [text[at : one.start], self.substitute(one.kind, text[one.start : one.end])]
            at = one.end
        return RedactedText(
            "".join([*pieces, text[at:]]), Counter[str](one.kind for one in findings)
        )


def placeholder(kind: PiiKind, _found: str) -> str:
    """The kind in brackets."""
    return f"[{kind.upper()}]"


def keyed_hash(secret: str) -> Substitute:
    """The kind and 65 bits of HMAC-SHA-256 (RFC 2104) over the value, however it is spaced or spelled.

    Without a secret a hash would hide nothing: there are only 10^10 telephone numbers to try.
    """

    def substitute(kind: PiiKind, found: str) -> str:
        value = f"{kind}:{_canonical(kind, found)}".encode()
        digest = hmac.digest(secret.encode(), value, hashlib.sha256)
        return f"[{kind.upper()}:{base64.b32encode(digest).decode().lower()[:13]}]"

    return substitute


def secret_id(secret: str) -> str:
    """Tells secrets apart without giving them away; for fingerprints."""
    return hmac.digest(secret.encode(), b"batchgen redact.secret", hashlib.sha256).hex()[:16]


def mask_value(kind: PiiKind, found: str) -> str:
    """Stars, but for what does not tell who it is: see the head of this file."""
    if kind == "email":
        name, _, domain = normalize_text(found).text.rpartition("@")
        return f"{name[:1]}***@{domain}"
    if kind == "ip":
        first, _, rest = normalize_text(found).text.partition(".")
        return "*:*" if ":" in first else f"{first}.{rest.partition('.')[0]}.*.*"
    return _but_the_last(found, kept=4)


def _but_the_last(found: str, kept: int) -> str:
    signs = [at for at, c in enumerate(found) if c.isalnum()]
    hidden = frozenset(signs[:-kept])
    return "".join("*" if at in hidden else c for at, c in enumerate(found))


def _canonical(kind: PiiKind, found: str) -> str:
    """One spelling for each value: 138 0013 8000 and 13800138000 are one telephone number."""
    text = normalize_text(found).text.casefold()
    return text if kind in ("email", "ip") else re.sub(r"[^0-9a-z]", "", text)
