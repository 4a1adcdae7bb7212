r"""Normalization of text for recognizers: ASCII digits, letters, dashes and spaces, no invisible characters.

Escapes of JSON text, such as `\n` and `\u4f60` for 你, become spaces; otherwise a number after one would look like the
middle of a word. The original position of each character is known, so that matches can be cut out of the original text.
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
    """A normalized text, and the original position of each character; None if positions are unchanged."""

    text: str
    positions: Sequence[int] | None = None

    def position(self, at: int) -> int:
        """Position of character `at` in the original text."""
        return at if self.positions is None else self.positions[at]


def normalize_text(text: str) -> NormalizedText:
    """Normalize a text; see the head of this file."""
    if "\\" in text:
        text = _ESCAPE.sub(lambda escape: " " * len(escape[0]), text)
    if text.isascii():
        return NormalizedText(text)
    ascii_text = text.translate(_ascii_characters())
    visible = ascii_text.translate(_INVISIBLE)
    if len(visible) == len(ascii_text):
        return NormalizedText(visible)
    positions = [at for at, c in enumerate(ascii_text) if ord(c) not in _INVISIBLE]
    return NormalizedText(visible, positions)


@cache
def ascii_forms() -> Mapping[int, str]:
    """Map full-width ASCII and the digits of all scripts to ASCII. Made on first use: it scans all of Unicode."""
    beyond_ascii = map(chr, range(0x80, sys.maxunicode + 1))
    return {
        **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width ASCII
        **{ord(c): str(unicodedata.decimal(c)) for c in beyond_ascii if c.isdecimal()},
    }


@cache
def _ascii_characters() -> Mapping[int, str]:
    return {
        **dict.fromkeys(_SPACES, " "),
        **dict.fromkeys(_DASHES, "-"),
        0x3002: ".",
        **ascii_forms(),
    }
