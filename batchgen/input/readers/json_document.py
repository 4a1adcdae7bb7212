"""JSON files: an array of objects, or objects one after another, over any number of lines.

The standard library's parser reads one object at a time, so memory does not grow with the file.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.json_objects import (
    DECODER,
    DEPTH_LIMIT,
    JsonLines,
    check_object,
    explain_bad_json,
    is_deep,
    is_incomplete,
    make_lines,
    too_deep,
)
from batchgen.input.readers.text.compression import BLOCK_BYTES
from batchgen.input.readers.text.streams import LINE_LIMIT, line_feed_blocks

_EXPECTED = "Write an array of objects, or objects one after another."
_SPACES = re.compile("[ \t\n\ufeff]*")


def read_document(file: InputFile) -> Iterator[JsonLines]:
    """Yield all objects, about a block of the file at a time.

    Raises:
        DataError: bytes that are not UTF-8, text that is not JSON, or a value that is not an object.
    """
    text = _Text(file, line_feed_blocks(file))
    objects: list[dict[str, object]] = []
    numbers: list[int] = []
    sources: list[str] = []
    size = 0
    for value in _values(text):
        objects.append(value.object)
        numbers.append(value.line)
        sources.append(value.source)
        size += len(value.source)
        if size >= BLOCK_BYTES:
            yield make_lines(file.path, objects, numbers, "".join(sources))
            objects, numbers, sources, size = [], [], [], 0
    if objects:
        yield make_lines(file.path, objects, numbers, "".join(sources))


@dataclass(frozen=True, slots=True)
class _Value:
    """An object, its first line, and its JSON text."""

    object: dict[str, object]
    line: int
    source: str


@dataclass(slots=True)
class _Text:
    """The text of a file. `text[at:]` is not read yet, and begins on line `line`."""

    file: InputFile
    blocks: Iterator[str]
    text: str = ""
    at: int = 0
    line: int = 1

    @property
    def location(self) -> str:
        return f"{self.file.path}:{self.line}"

    def next_mark(self) -> str:
        """Skip white space, and return the next character without reading it; empty at the end of the file."""
        while True:
            found = _SPACES.match(self.text, self.at)
            self.skip_to(self.at if found is None else found.end())
            if self.at < len(self.text) or not self.read_block():
                return self.text[self.at : self.at + 1]

    def skip_to(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end

    def read_block(self) -> bool:
        """Append one more block; False at the end of the file."""
        for block in self.blocks:
            if block:
                self.text = self.text[self.at :] + block
                self.at = 0
                return True
        return False


def _values(text: _Text) -> Iterator[_Value]:
    in_array = False
    while mark := text.next_mark():
        if mark == "[" and not in_array:
            in_array = True
            text.skip_to(text.at + 1)
            if text.next_mark() == "]":
                text.skip_to(text.at + 1)
                in_array = False
            continue
        yield _next_value(text)
        if in_array:
            in_array = _has_next(text)
    if in_array:
        raise _incomplete(text)


def _has_next(text: _Text) -> bool:
    """Read the comma or bracket behind an element of an array; whether another element follows."""
    mark = text.next_mark()
    if not mark:
        raise _incomplete(text)
    if mark not in {",", "]"}:
        raise DataError(
            f"{text.location}: is not JSON: expected a comma or ] between two objects of the array",
            hint=_EXPECTED,
        )
    text.skip_to(text.at + 1)
    if mark == "]":
        return False
    if text.next_mark() == "]":
        raise DataError(f"{text.location}: is not JSON: a comma before ]", hint="Remove the comma.")
    return True


def _next_value(text: _Text) -> _Value:
    line = text.line
    while True:
        try:
            value, end = DECODER.raw_decode(text.text, text.at)
        except json.JSONDecodeError as error:
            if not is_incomplete(error) or not _read_as_much_again(text):
                raise _bad_value(text, error) from error
        except (ValueError, RecursionError) as error:
            raise explain_bad_json(error, text.location, _EXPECTED) from error
        else:
            source = text.text[text.at : end]
            object_ = check_object(value, text.location)
            if source.count("[") + source.count("{") > DEPTH_LIMIT and is_deep(object_):
                raise too_deep(text.location)
            text.skip_to(end)
            return _Value(object_, line, source)


def _read_as_much_again(text: _Text) -> bool:
    """Read until the text has twice its length, so that a long object is not parsed for every block of it."""
    size = len(text.text) - text.at
    if size > LINE_LIMIT:
        raise DataError(
            f"{text.location}: an object is longer than {LINE_LIMIT:,} characters", hint=_EXPECTED
        )
    has_more = text.read_block()
    while has_more and len(text.text) < 2 * size:
        if not text.read_block():
            break
    return has_more


def _bad_value(text: _Text, error: json.JSONDecodeError) -> DataError:
    if is_incomplete(error):
        return _incomplete(text)
    line = text.line + text.text.count("\n", text.at, error.pos)
    return explain_bad_json(error, f"{text.file.path}:{line}", _EXPECTED)


def _incomplete(text: _Text) -> DataError:
    return DataError(
        f"{text.location}: the file ends before the JSON value that begins on this line or above it",
        hint="Wait if the file is still being written. Otherwise download or write it again.",
    )
