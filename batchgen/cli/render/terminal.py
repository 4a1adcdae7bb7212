"""Text for a terminal: output of models and rows must not move cursors, set titles or change the reading order."""

import itertools
import json
import re
import shutil
import sys
import unicodedata

_KEPT = {"\n", "\t"}
_BIDI = {chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)}


_LEAST_WIDTH = 30
"""Columns right of an indent; narrower text is not wrapped."""


def printable(text: str) -> str:
    r"""The text with control and direction characters escaped: ESC becomes \x1b."""
    if text.isprintable():
        return text
    return "".join(c if _is_safe(c) else _escaped(c) for c in text)


def json_line(content: object) -> str:
    """One object as one line of JSON, with the same characters escaped, and those that stdout cannot encode."""
    text = json_text(content)
    if text.isprintable():
        return text
    return "".join(c if _is_safe(c) or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in text)


def json_text(content: object, *, indent: int | None = None) -> str:
    """An object as JSON; in ASCII if it has characters that stdout cannot encode."""
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(content, indent=indent)
    return text


def _is_safe(character: str) -> bool:
    if character in _KEPT:
        return True
    return character not in _BIDI and unicodedata.category(character) not in ("Cc", "Cs", "Cn")


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shorten(text: str, length: int) -> str:
    """At most `length` characters; a longer text ends in an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def window_width() -> int:
    """Columns of the terminal; 100 without a terminal."""
    return shutil.get_terminal_size(fallback=(100, 24)).columns


def display_width(text: str) -> int:
    """Columns of a terminal that the text takes; a Chinese character takes two."""
    return sum(map(_columns, text))


def fit_width(text: str, columns: int) -> str:
    """The text cut or padded to that many columns of a terminal; a Chinese character takes two."""
    taken = [_columns(character) for character in text]
    if sum(taken) > columns:
        ends = itertools.accumulate(taken)
        text = text[: sum(end < columns for end in ends)] + "…"
    return text + " " * (columns - display_width(text))


def wrapped_line(text: str, indent: int, *, err: bool = False) -> str:
    """The text in lines of the terminal's width, the further ones indented; unchanged where it is not printed to a terminal.

    It is printed to stdout, with `err` to stderr.
    """
    stream = sys.stderr if err else sys.stdout
    return wrap(text, indent, window_width()) if stream.isatty() else text


def wrap(text: str, indent: int, width: int) -> str:
    """The text broken at spaces, and a longer word, such as a Chinese sentence, anywhere; unchanged in a very narrow window."""
    if indent + _LEAST_WIDTH > width or display_width(text) <= width:
        return text
    lines, line = [], ""
    for word in re.findall(r"\s*\S+", text):
        if display_width(line + word) <= width or not line:
            line += word
        else:
            lines.append(line)
            line = " " * indent + word.lstrip()
        while display_width(line) > width:
            cut = _cut(line, width)
            lines.append(line[:cut])
            line = " " * indent + line[cut:]
    return "\n".join([*lines, line])


def _cut(text: str, columns: int) -> int:
    """How many characters fit into so many columns."""
    ends = itertools.accumulate(map(_columns, text))
    return sum(end <= columns for end in ends)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def format_count(count: int, noun: str) -> str:
    """`1 row`, `2,048 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_answers(answers: int, samples: int) -> str:
    """`12 rows`, or with several answers to each row `48 answers (16 rows x 3)`."""
    if samples == 1:
        return format_count(answers, "row")
    rows = format_count(answers // samples, "row")
    return f"{format_count(answers, 'answer')} ({rows} x {samples})"


def format_bytes(count: float) -> str:
    """Bytes in a readable unit; units are powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
