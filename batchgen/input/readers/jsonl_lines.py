"""Lines of a JSONL file as objects, some at a time, each with its number.

Strict: no NaN, no key twice, nothing after the object, bounded length and depth. Text that is not Unicode
(half of a surrogate pair) is repaired here and fails its row. Knows nothing of columns and their types.
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
"""Most lists and objects within each other."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_KINDS = {list: "a list", str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Some lines of a file as objects, with their numbers from 1; `failures` are by position."""

    path: Path
    objects: Sequence[Mapping[str, object]]
    numbers: Sequence[int]
    failures: Mapping[int, Failure]

    def column(self, key: str) -> list[object]:
        """The values of a key; None where it is missing."""
        return [found.get(key) for found in self.objects]


def read_lines(file: InputFile) -> Iterator[JsonLines]:
    """All lines that are not empty, about a block of the file at a time.

    Raises:
        DataError: bytes that are not UTF-8; a line that is not a JSON object, with its number.
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
        if found := _parsed(file.path, complete, number):
            yield found
        number += complete.count("\n")
    try:
        if found := _parsed(file.path, rest, number):
            yield found
    except DataError as error:
        raise DataError(
            f"{error.message} (this last line has no line break)",
            hint="Is the file still being written, or cut off?",
        ) from error


class _NotJsonError(ValueError):
    """Something that the parser would let pass."""


def _refuse_constant(name: str) -> NoReturn:
    raise _NotJsonError(f"{name} is not JSON; write null")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise _NotJsonError(f"key {twice!r} appears twice")
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object)


def _parsed(path: Path, text: str, number: int) -> JsonLines | None:
    objects: list[dict[str, object]] = []
    numbers: list[int] = []
    lines = text.split("\n")
    # Most files have no list and no object within an object: then no line needs a look at its depth.
    is_flat = "[" not in text and text.count("{") <= len(lines)
    for line in lines:
        if line and not line.isspace():
            found = _parsed_line(line, path, number)
            if not is_flat and line.count("[") + line.count("{") > DEPTH_LIMIT and _is_deep(found):
                raise _too_deep(path, number)
            objects.append(found)
            numbers.append(number)
        number += 1
    if not objects:
        return None
    failures = _repair(objects) if _SURROGATE_ESCAPE.search(text) else {}
    return JsonLines(path, objects, numbers, failures)


def _parsed_line(line: str, path: Path, number: int) -> dict[str, object]:
    try:
        found, end = _DECODER.raw_decode(line)
    except (ValueError, RecursionError):
        # White space before it, or not JSON.
        return _parsed_slowly(line, path, number)
    if type(found) is dict and (end == len(line) or line[end:].isspace()):
        return found
    return _parsed_slowly(line, path, number)


def _parsed_slowly(line: str, path: Path, number: int) -> dict[str, object]:
    """The object in a line, or what is wrong with it."""
    place = f"{path}:{number}"
    try:
        found: object = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{place}: is not JSON: {error.msg[0].lower() + error.msg[1:]} at character {error.colno:,}",
            hint="Expected one JSON object per line.",
        ) from error
    except _NotJsonError as error:
        raise DataError(f"{place}: {error}", hint="Expected one JSON object per line.") from error
    except ValueError as error:
        # Python refuses to read numbers of more than 4,300 digits.
        raise DataError(
            f"{place}: a number has too many digits", hint="Write it as text, in quotes."
        ) from error
    except RecursionError as error:
        raise _too_deep(path, number) from error
    if not isinstance(found, dict):
        kind = _KINDS.get(type(found), "a number")
        raise DataError(
            f'{place}: is {kind}; expected an object, such as {{"id": 1, "question": "…"}}',
            hint="One object per line, without brackets or commas around them.",
        )
    return found


def _too_deep(path: Path, number: int) -> DataError:
    return DataError(
        f"{path}:{number}: lists and objects lie more than {DEPTH_LIMIT} deep within each other",
        hint="Keep such data as JSON text, in quotes.",
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
    """Replace what is not Unicode, and say which rows it was in."""
    failures: dict[int, Failure] = {}
    for position, found in enumerate(objects):
        for key, value in list(found.items()):
            clean = without_surrogates({key: value})
            if clean != {key: value} and isinstance(clean, dict):
                failures.setdefault(position, invalid_unicode(*clean))
                objects[position] = {**_without(objects[position], key), **clean}
    return failures


def _without(found: Mapping[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in found.items() if name != key}
