"""Text of rows in the static part of a page: characters that change the reading order or are not text become visible."""

import unicodedata

_DIRECTION = {
    *(chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
    *"\u200e\u200f\u061c",
}


MAX_LINE = 600
"""Characters of a name or a value; a cell of the input, which may have a million, can be the name of a slice."""


def visible(text: str) -> str:
    """One line of text, with control and direction characters as `<U+202E>`. A long text ends in an ellipsis."""
    return "".join(map(_shown, shorten_line(text, MAX_LINE)))


def shorten_line(text: str, most: int) -> str:
    """At most that many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _shown(character: str) -> str:
    if character in "\n\t":
        return " "
    unsafe = character in _DIRECTION or unicodedata.category(character) in ("Cc", "Cs", "Cn")
    return f"<U+{ord(character):04X}>" if unsafe else character
