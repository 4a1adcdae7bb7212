"""Lines of a JSONL file as objects. A line ends with LF, CRLF or CR, none of which can be inside JSON text."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from batchgen.arrow.types import Position
from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.json_objects import (
    DECODER,
    DEPTH_LIMIT,
    IncompleteJsonError,
    JsonLines,
    check_object,
    explain_bad_json,
    is_deep,
    make_lines,
    too_deep,
)
from batchgen.input.readers.text.streams import LINE_LIMIT, first_byte, text_blocks

_EXPECTED = (
    "Write one JSON object per line. Set input.format: json if objects extend over several lines."
)


def read_lines(file: InputFile, start: Position | None = None) -> Iterator[JsonLines]:
    """Yield the lines from a position on that are not empty, about a block of the file at a time.

    Raises:
        DataError: bytes that are not UTF-8, or a line that is not a JSON object.
    """
    at, before = start or (first_byte(file, "utf-8"), 0)
    rest, number = "", before + 1
    for block in text_blocks(file, "utf-8", start=start[0] if start else None):
        text = rest + block
        # A CR at the very end may be half of a CRLF.
        end = max(text.rfind("\n"), text.rfind("\r", 0, len(text) - 1)) + 1
        rest = text[end:]
        complete = _with_line_feeds(text[:end])
        if len(rest) > LINE_LIMIT:
            raise DataError(
                f"{file.path}:{number + complete.count(chr(10))}: a line is longer than {LINE_LIMIT:,} characters",
                hint=_EXPECTED,
            )
        position = None if at is None else (at, number - 1)
        if lines := _parse_lines(file.path, complete, number):
            yield replace(lines, position=position)
        number += complete.count("\n")
        at = None if at is None else at + len(text[:end].encode())
    try:
        if lines := _parse_lines(file.path, _with_line_feeds(rest), number):
            yield lines
    except IncompleteJsonError as error:
        raise DataError(
            f"{error.message} (this last line has no line break)",
            hint="Wait if the file is still being written. Otherwise download or write it again.",
        ) from error


def _with_line_feeds(text: str) -> str:
    """The text with LF as its only line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _parse_lines(path: Path, text: str, number: int) -> JsonLines | None:
    objects: list[dict[str, object]] = []
    numbers: list[int] = []
    lines = text.split("\n")
    # Most files have no nested lists or objects; then the depth of their lines is not checked.
    is_flat = "[" not in text and text.count("{") <= len(lines)
    for line in lines:
        if line and not line.isspace():
            object_ = _parse_line(line, path, number)
            may_be_deep = not is_flat and line.count("[") + line.count("{") > DEPTH_LIMIT
            if may_be_deep and is_deep(object_):
                raise too_deep(f"{path}:{number}")
            objects.append(object_)
            numbers.append(number)
        number += 1
    return make_lines(path, objects, numbers, text) if objects else None


def _parse_line(line: str, path: Path, number: int) -> dict[str, object]:
    try:
        value, end = DECODER.raw_decode(line)
    except (ValueError, RecursionError):
        # Leading white space, or not JSON.
        return _parse_slowly(line, path, number)
    if type(value) is dict and (end == len(line) or line[end:].isspace()):
        return value
    return _parse_slowly(line, path, number)


def _parse_slowly(line: str, path: Path, number: int) -> dict[str, object]:
    """The object in a line; DataError with the cause if there is none."""
    location = f"{path}:{number}"
    # A byte order mark within a file is at the start of a file that was appended to it.
    line = line.removeprefix("\ufeff")
    try:
        value: object = DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        if number == 1 and line.lstrip().startswith("["):
            raise _json_array(location) from error
        raise explain_bad_json(error, location, _EXPECTED) from error
    if isinstance(value, list) and number == 1:
        raise _json_array(location)
    return check_object(value, location)


def _json_array(location: str) -> DataError:
    return DataError(
        f"{location}: is a JSON array; expected an object on each line",
        hint="Set input.format: json, or name the file .json.",
    )
