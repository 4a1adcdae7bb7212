"""Lines of a JSONL file as objects.

Parsing is strict: no NaN, no repeated key, nothing after the object, bounded length and depth. A lone surrogate is
replaced, and its row fails.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.cell_limits import invalid_unicode, without_surrogates
from batchgen.input.readers.streams import LINE_LIMIT, text_blocks
from batchgen.records import Failure

DEPTH_LIMIT = 32
"""Deepest nesting of lists and objects."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_KINDS = {list: "a list", str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Some lines as objects, with their numbers from 1; `failures` are by position."""

    path: Path
    objects: Sequence[Mapping[str, object]]
    numbers: Sequence[int]
    failures: Mapping[int, Failure]

    def column(self, key: str) -> list[object]:
        """The values of a key; None where it is missing."""
        return [object_.get(key) for object_ in self.objects]


def read_lines(file: InputFile) -> Iterator[JsonLines]:
    """Yield all lines that are not empty, about a block of the file at a time.

    Raises:
        DataError: bytes that are not UTF-8, or a line that is not a JSON object.
    """
    rest, number = "", 1
    for block in text_blocks(file, "utf-8"):
        text = rest + block
        end = text.rfind("\n") + 1
        complete, rest = text[:end], text[end:]
        if len(rest) > LINE_LIMIT:
            raise DataError(
                f"{file.path}:{number + complete.count(chr(10))}: a line is longer than {LINE_LIMIT:,} characters",
                hint="Expected one JSON object per line.",
            )
        if lines := _parse_lines(file.path, complete, number):
            yield lines
        number += complete.count("\n")
    try:
        if lines := _parse_lines(file.path, rest, number):
            yield lines
    except DataError as error:
        raise DataError(
            f"{error.message} (this last line has no line break)",
            hint="Wait if the file is still being written. Otherwise download or write it again.",
        ) from error


class _NotJsonError(ValueError):
    """Text that the standard library's parser accepts although it is not JSON."""


def _reject_constant(name: str) -> NoReturn:
    raise _NotJsonError(f"{name} is not JSON; write null")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    object_ = dict(pairs)
    if len(object_) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in object_ if keys.count(key) > 1)
        raise _NotJsonError(f"key {repeated!r} appears twice")
    return object_


_DECODER = json.JSONDecoder(parse_constant=_reject_constant, object_pairs_hook=_object)


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
            if may_be_deep and _is_deep(object_):
                raise _too_deep(path, number)
            objects.append(object_)
            numbers.append(number)
        number += 1
    if not objects:
        return None
    failures = _repair(objects) if _SURROGATE_ESCAPE.search(text) else {}
    return JsonLines(path, objects, numbers, failures)


def _parse_line(line: str, path: Path, number: int) -> dict[str, object]:
    try:
        value, end = _DECODER.raw_decode(line)
    except (ValueError, RecursionError):
        # Leading white space, or not JSON.
        return _parse_slowly(line, path, number)
    if type(value) is dict and (end == len(line) or line[end:].isspace()):
        return value
    return _parse_slowly(line, path, number)


def _parse_slowly(line: str, path: Path, number: int) -> dict[str, object]:
    """The object in a line; DataError with the cause if there is none."""
    location = f"{path}:{number}"
    try:
        value: object = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{location}: is not JSON: {error.msg[0].lower() + error.msg[1:]} at character {error.colno:,}",
            hint="Expected one JSON object per line.",
        ) from error
    except _NotJsonError as error:
        raise DataError(
            f"{location}: {error}", hint="Expected one JSON object per line."
        ) from error
    except ValueError as error:
        # Python does not parse integers of more than 4,300 digits.
        raise DataError(
            f"{location}: a number has too many digits", hint="Write it as text, in quotes."
        ) from error
    except RecursionError as error:
        raise _too_deep(path, number) from error
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value), "a number")
        raise DataError(
            f'{location}: is {kind}; expected an object, such as {{"id": 1, "question": "…"}}',
            hint="Write one object per line, without brackets or commas around it.",
        )
    return value


def _too_deep(path: Path, number: int) -> DataError:
    return DataError(
        f"{path}:{number}: lists and objects are nested more than {DEPTH_LIMIT} deep",
        hint="Write such data as JSON text, in quotes.",
    )


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEPTH_LIMIT + 1):
        containers = [item for item in level if isinstance(item, list | dict)]
        if not containers:
            return False
        level = [
            child
            for item in containers
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return True


def _repair(objects: list[dict[str, object]]) -> dict[int, Failure]:
    """Replace lone surrogates, in place, and return the failures of their rows."""
    failures: dict[int, Failure] = {}
    for position, object_ in enumerate(objects):
        for key, value in list(object_.items()):
            clean = without_surrogates({key: value})
            if clean != {key: value} and isinstance(clean, dict):
                failures.setdefault(position, invalid_unicode(*clean))
                del object_[key]
                object_.update(clean)
    return failures
