"""Text of rows in the static part of a page: characters that change the reading order or are no text become visible."""

import unicodedata

_DIRECTION = {
    *(chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
    *"\u200e\u200f\u061c",
}


def visible(text: str) -> str:
    """One line of text, with control and direction characters as `<U+202E>`."""
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character in "\n\t":
        return " "
    unsafe = character in _DIRECTION or unicodedata.category(character) in ("Cc", "Cs", "Cn")
    return f"<U+{ord(character):04X}>" if unsafe else character
