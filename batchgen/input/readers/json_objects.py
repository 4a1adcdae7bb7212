"""JSON text as objects, strictly, and the causes of text that is not JSON.

Parsing is strict: no NaN, no repeated key, bounded depth. A lone surrogate is replaced, and its row fails.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from batchgen.arrow.types import Position
from batchgen.errors import DataError
from batchgen.input.readers.cell_limits import invalid_unicode, without_surrogates
from batchgen.records import Failure

DEPTH_LIMIT = 32
"""Deepest nesting of lists and objects."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_KINDS = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
_SPACE = " \t\r\n"
_CONTROLS = {"\t": r"a tab (write \t)", "\n": r"a line break (write \n)"}


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Some objects of a file, with the numbers of their first lines from 1; `failures` are by index in `objects`.

    `position`: their first byte in the file and the lines before it; None if they cannot be read from there.
    """

    path: Path
    objects: Sequence[Mapping[str, object]]
    numbers: Sequence[int]
    failures: Mapping[int, Failure]
    position: Position | None = None

    def column(self, key: str) -> list[object]:
        """The values of a key; None where it is missing."""
        return [object_.get(key) for object_ in self.objects]


class IncompleteJsonError(DataError):
    """JSON text that ends before its object does."""


class _NotJsonError(ValueError):
    """Text that the standard library's parser accepts although it is not JSON."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def _reject_constant(name: str) -> NoReturn:
    raise _NotJsonError(f"{name} is not JSON", "Write null.")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    object_ = dict(pairs)
    if len(object_) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in object_ if keys.count(key) > 1)
        raise _NotJsonError(f"key {repeated!r} appears twice", "Give each key its own name.")
    return object_


DECODER = json.JSONDecoder(parse_constant=_reject_constant, object_pairs_hook=_object)


def make_lines(
    path: Path, objects: list[dict[str, object]], numbers: list[int], text: str
) -> JsonLines:
    """Objects of a text, with lone surrogates replaced."""
    failures = _repair(objects) if _SURROGATE_ESCAPE.search(text) else {}
    return JsonLines(path, objects, numbers, failures)


def check_object(value: object, location: str) -> dict[str, object]:
    """The value itself; DataError if it is not an object."""
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value), "a number")
        raise DataError(
            f'{location}: is {kind}; expected an object, such as {{"id": 1, "question": "…"}}',
            hint="Write each row as one object.",
        )
    return value


def explain_bad_json(error: ValueError | RecursionError, location: str, expected: str) -> DataError:
    """The error for text that cannot be parsed.

    Args:
        error: from DECODER.
        location: file and line of the error.
        expected: a sentence on the layout of the file, for the hint.
    """
    if isinstance(error, json.JSONDecodeError):
        return _explain_text(error, location, expected)
    if isinstance(error, RecursionError):
        return too_deep(location)
    if isinstance(error, _NotJsonError):
        return DataError(f"{location}: {error}", hint=error.hint)
    # Python does not parse integers of more than 4,300 digits.
    return DataError(
        f"{location}: a number has too many digits", hint="Write it as text, in quotes."
    )


def _explain_text(error: json.JSONDecodeError, location: str, expected: str) -> DataError:
    if error.doc[error.pos : error.pos + 1] == "\0":
        return DataError(
            f"{location}: contains a NUL byte at character {error.colno:,}, as after a crash or on a full disk",
            hint="Write the file again.",
        )
    if is_incomplete(error):
        return IncompleteJsonError(
            f"{location}: is not JSON: the object does not end on this line", hint=expected
        )
    return DataError(
        f"{location}: is not JSON: {_cause(error)} at character {error.colno:,}", hint=expected
    )


def is_incomplete(error: json.JSONDecodeError) -> bool:
    """Whether the text ended where the parser expected more of it."""
    rest = error.doc[error.pos :].rstrip(_SPACE)
    is_cut_word = any(word.startswith(rest) for word in ("true", "false", "null", "-"))
    return is_cut_word or error.msg.startswith(("Unterminated string", "Invalid \\uXXXX"))


def _cause(error: json.JSONDecodeError) -> str:
    text, at = error.doc, error.pos
    found = text[at : at + 1]
    rest = text[at + 1 :].lstrip(_SPACE)
    before = text[:at].rstrip(_SPACE)
    # Since Python 3.13 the error is at the comma, before that at the bracket.
    closing = rest[:1] if found == "," else found if before.endswith(",") else ""
    if closing in {"}", "]"}:
        return f"a comma before {closing}"
    if error.msg == "Extra data":
        return {"{": "a second object begins", ",": "a comma follows the object"}.get(
            found, "text follows the object"
        )
    if error.msg.startswith("Invalid control character"):
        kind = _CONTROLS.get(found, f"U+{ord(found):04X} (write \\u{ord(found):04x})")
        return f"text contains {kind}"
    if found == "'":
        return "a single quote instead of a double quote"
    message = error.msg[0].lower() + error.msg[1:]
    return message.removesuffix(" at").removesuffix(" starting")


def too_deep(location: str) -> DataError:
    """The error for deeper nesting than DEPTH_LIMIT."""
    return DataError(
        f"{location}: lists and objects are nested more than {DEPTH_LIMIT} deep",
        hint="Write such data as JSON text, in quotes.",
    )


def is_deep(value: object) -> bool:
    """Whether lists and objects are nested more than DEPTH_LIMIT deep."""
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
