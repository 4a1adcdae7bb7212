r"""Text as recognizers read it: full-width characters, foreign digits, dashes and spaces as ASCII, nothing invisible.

JSON text writes `\n` for a new line and often `\u4f60` for 你: escapes are read as spaces, or the number behind one would
seem to be the middle of a word.

Each character that stays keeps its place, or the place it had is known: what is found is cut out of the text as it
was given.
"""

import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

_INVISIBLE = dict.fromkeys(
    (
        *(0x00AD, 0x034F, 0x061C, 0x180E, 0xFEFF),
        *range(0x200B, 0x2010),  # zero-width space and joiners, direction marks
        *range(0x202A, 0x202F),  # direction embeddings
        *range(0x2060, 0x2070),  # word joiner, invisible operators, direction isolates
        *range(0xFE00, 0xFE10),  # variation selectors, as in the digits of keycaps
        0x20E3,
    )
)
_SPACES = (0x00A0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)
_DASHES = (*range(0x2010, 0x2016), 0x2043, 0x2212, 0xFE58, 0xFE63)
_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|[bfnrt])")


@dataclass(frozen=True, slots=True)
class NormalizedText:
    """A text in plain form; `positions` tells where each character was, where that is not where it is."""

    text: str
    positions: Sequence[int] | None = None

    def position(self, at: int) -> int:
        """Where the character at `at` stood in the text as it was given."""
        return at if self.positions is None else self.positions[at]


def normalize_text(text: str) -> NormalizedText:
    """The plain form of a text."""
    if "\\" in text:
        text = _ESCAPE.sub(lambda escape: " " * len(escape[0]), text)
    if text.isascii():
        return NormalizedText(text)
    shown = text.translate(_plain())
    bare = shown.translate(_INVISIBLE)
    if len(bare) == len(shown):
        return NormalizedText(shown)
    return NormalizedText(bare, [at for at, c in enumerate(shown) if ord(c) not in _INVISIBLE])


@cache
def ascii_forms() -> Mapping[int, str]:
    """Full-width ASCII and the digits of all scripts. Made when it is needed: digits are looked for in all of Unicode."""
    beyond_ascii = map(chr, range(0x80, sys.maxunicode + 1))
    return {
        **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width ASCII
        **{ord(c): str(unicodedata.decimal(c)) for c in beyond_ascii if c.isdecimal()},
    }


@cache
def _plain() -> Mapping[int, str]:
    """One character for one character."""
    return {
        **dict.fromkeys(_SPACES, " "),
        **dict.fromkeys(_DASHES, "-"),
        0x3002: ".",
        **ascii_forms(),
    }
