"""Where a text holds personal data: `find_pii` tells the kind and the place of each.

    text ──plain form──> patterns ──> check digits, dates ──> overlaps joined ──> Found

Knows nothing of what becomes of the findings.
"""

from collections.abc import Collection
from dataclasses import dataclass

from batchgen.privacy.normalize import normalize_text
from batchgen.privacy.recognizers import PII_KINDS as PII_KINDS
from batchgen.privacy.recognizers import RECOGNIZERS
from batchgen.privacy.recognizers import PiiKind as PiiKind


@dataclass(frozen=True, slots=True)
class PiiMatch:
    """One finding: `text[start:end]`, in characters of the text as it was given."""

    kind: PiiKind
    start: int
    end: int


def find_pii(text: str, kinds: Collection[PiiKind] = PII_KINDS) -> list[PiiMatch]:
    """The personal data in a text, in order, without overlaps.

    Full-width characters, digits of other scripts, foreign spaces and dashes are read as the ASCII they stand for,
    and invisible characters are not seen.

    Args:
        text: anything, of any length.
        kinds: what to look for.
    """
    if not kinds:
        return []
    shape = normalize_text(text)
    digits = any(digit in shape.text for digit in "0123456789")
    claims = [
        PiiMatch(recognizer.kind, shape.position(start), shape.position(end - 1) + 1)
        for recognizer in RECOGNIZERS
        if recognizer.kind in kinds and (digits or recognizer.kind == "email")
        for start, end in recognizer.places(shape.text)
    ]
    return _merge_overlaps(claims)


def _merge_overlaps(claims: list[PiiMatch]) -> list[PiiMatch]:
    """Overlapping claims as one: whatever any of them claims is covered, under the name of the longest."""
    joined: list[PiiMatch] = []
    longest = 0
    for claim in sorted(claims, key=lambda f: (f.start, -f.end, PII_KINDS.index(f.kind))):
        length = claim.end - claim.start
        if not joined or claim.start >= joined[-1].end:
            joined.append(claim)
            longest = length
            continue
        last = joined[-1]
        kind = claim.kind if length > longest else last.kind
        joined[-1] = PiiMatch(kind, last.start, max(last.end, claim.end))
        longest = max(longest, length)
    return joined
