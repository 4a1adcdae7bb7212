"""Detection of personal data in a text, with kind and position.

text ──> normalized text ──> patterns ──> check digits, dates ──> merged overlaps ──> PiiMatch
"""

from collections.abc import Collection
from dataclasses import dataclass

from batchgen.privacy.normalize import normalize_text
from batchgen.privacy.recognizers import PII_KINDS as PII_KINDS
from batchgen.privacy.recognizers import RECOGNIZERS
from batchgen.privacy.recognizers import PiiKind as PiiKind


@dataclass(frozen=True, slots=True)
class PiiMatch:
    """Personal data in `text[start:end]` of the original text."""

    kind: PiiKind
    start: int
    end: int


def find_pii(text: str, kinds: Collection[PiiKind] = PII_KINDS) -> list[PiiMatch]:
    """The personal data of some kinds in a text, in order, without overlaps.

    Full-width characters, digits of all scripts, and Unicode spaces and dashes count as their ASCII equivalents;
    invisible characters are ignored.
    """
    if not kinds:
        return []
    normalized = normalize_text(text)
    digits = any(digit in normalized.text for digit in "0123456789")
    matches = [
        PiiMatch(recognizer.kind, normalized.position(start), normalized.position(end - 1) + 1)
        for recognizer in RECOGNIZERS
        if recognizer.kind in kinds and (digits or recognizer.kind == "email")
        for start, end in recognizer.matches(normalized.text)
    ]
    return _merge_overlaps(matches)


def _merge_overlaps(matches: list[PiiMatch]) -> list[PiiMatch]:
    """Merge overlapping matches; the merged match has the kind of the longest."""
    merged: list[PiiMatch] = []
    longest = 0
    for match in sorted(matches, key=lambda m: (m.start, -m.end, PII_KINDS.index(m.kind))):
        length = match.end - match.start
        if not merged or match.start >= merged[-1].end:
            merged.append(match)
            longest = length
            continue
        last = merged[-1]
        kind = match.kind if length > longest else last.kind
        merged[-1] = PiiMatch(kind, last.start, max(last.end, match.end))
        longest = max(longest, length)
    return merged
