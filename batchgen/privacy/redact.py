"""Replacement of personal data by a placeholder, a keyed hash, or a mask.

    placeholder   [EMAIL]                 the same for all values
    hash          [EMAIL:k5qz2m7ady3vx]   the same for equal values; computing it needs the secret
    mask          j***@example.com        shows the last digits, the domain of an email, the network of an IPv4 address

Redacting a redacted text does not change it.
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
"""Returns the replacement for a kind and the matched characters."""


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A redacted text, and the number of replaced items by kind."""

    text: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Redactor:
    """Replaces personal data of some kinds."""

    kinds: Collection[PiiKind]
    substitute: Substitute

    def redact(self, text: str) -> RedactedText:
        matches = find_pii(text, self.kinds)
        if not matches:
            return RedactedText(text, {})
        pieces: list[str] = []
        at = 0
        for m in matches:
            pieces += [text[at : m.start], self.substitute(m.kind, text[m.start : m.end])]
            at = m.end
        return RedactedText("".join([*pieces, text[at:]]), Counter[str](m.kind for m in matches))


def placeholder(kind: PiiKind, _value: str) -> str:
    """The kind in brackets."""
    return f"[{kind.upper()}]"


def keyed_hash(secret: str) -> Substitute:
    """The kind and 65 bits of HMAC-SHA-256 (RFC 2104) of the value, independent of spaces and case.

    A hash without a secret could be reversed by trying all values: there are only 10^10 telephone numbers.
    """

    def substitute(kind: PiiKind, value: str) -> str:
        content = f"{kind}:{_canonical(kind, value)}".encode()
        digest = hmac.digest(secret.encode(), content, hashlib.sha256)
        return f"[{kind.upper()}:{base64.b32encode(digest).decode().lower()[:13]}]"

    return substitute


def secret_id(secret: str) -> str:
    """A keyed hash that identifies a secret in fingerprints without revealing it."""
    return hmac.digest(secret.encode(), b"batchgen redact.secret", hashlib.sha256).hex()[:16]


def mask_value(kind: PiiKind, value: str) -> str:
    """Replace the identifying characters by stars; see the head of this file."""
    if kind == "email":
        name, _, domain = normalize_text(value).text.rpartition("@")
        return f"{name[:1]}***@{domain}"
    if kind == "ip":
        first, _, rest = normalize_text(value).text.partition(".")
        return "*:*" if ":" in first else f"{first}.{rest.partition('.')[0]}.*.*"
    hidden = frozenset([at for at, c in enumerate(value) if c.isalnum()][:-4])
    return "".join("*" if at in hidden else c for at, c in enumerate(value))


def _canonical(kind: PiiKind, value: str) -> str:
    """One spelling for each value: 138 0013 8000 and 13800138000 are one telephone number."""
    text = normalize_text(value).text.casefold()
    return text if kind in ("email", "ip") else re.sub(r"[^0-9a-z]", "", text)
