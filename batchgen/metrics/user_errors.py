"""Errors in a user's own code, as a text with file, line and message, without text of the row."""

import ast
import importlib
import inspect
import linecache
import os
import re
import traceback
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from batchgen.metrics.base import Answer

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)+'|"(?:[^"\\]|\\.)+\"""")
_RUN = 8
"""So many characters of the message that are also in the row are text of the row."""
_MOST = 160
"""Maximum characters shown of a message."""
_HIDDEN = "…"
_IMPORTLIB = str(Path(importlib.__file__).parent) + os.sep
_PACKAGE = str(Path(__file__).parents[1]) + os.sep


def describe_error(error: BaseException, file: str | None, answer: Answer | None = None) -> str:
    """Such as `mine.py, line 12: ValueError: no digits`. Text of the answer's row in the message is replaced by `…`.

    `file` is that of the user's function; None if it is unknown.
    """
    return f"{error_place(error, file)}{_with_type(error, file, answer)}"


def error_place(error: BaseException, file: str | None) -> str:
    """File and line of an error, such as `mine.py, line 12: `: the last line in the user's file, else in any other code."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    own = [one for one in frames if file is not None and _same(one[0], file)]
    foreign = [one for one in frames if not one[0].startswith((_PACKAGE, "<frozen", _IMPORTLIB))]
    if not own and not foreign:
        return "" if file is None else f"{Path(file).name}: "
    found, line = (own or foreign)[-1]
    return f"{Path(found).name}, line {line}: "


def place_of(function: Callable[..., object]) -> str:
    """File and first line of a function, such as `mine.py, line 3: `; empty for one that is not written in Python."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    code = code or getattr(vars(type(function)).get("__call__"), "__code__", None)
    return f"{Path(code.co_filename).name}, line {code.co_firstlineno}: " if code else ""


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _with_type(error: BaseException, file: str | None, answer: Answer | None) -> str:
    name = type(error).__name__
    try:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as other:  # noqa: BLE001 - foreign code: __str__ of a user's exception may fail
        message = f"its message cannot be shown: {type(other).__name__}"
    # A lone surrogate cannot be written to a file.
    text = " ".join(message.encode("utf-8", "backslashreplace").decode("utf-8").split())
    if answer is not None:
        text = _without_row_text(text[: 2 * _MOST], answer, _own_texts(file))
    text = text if len(text) <= _MOST else f"{text[:_MOST]}{_HIDDEN}"
    return f"{name}: {text}" if text else name


def _own_texts(file: str | None) -> frozenset[str]:
    """The texts in the user's code, which no row has to have put into a message."""
    return _constants("".join(linecache.getlines(file))) if file is not None else frozenset()


@lru_cache(maxsize=16)
def _constants(source: str) -> frozenset[str]:
    try:
        nodes = ast.walk(ast.parse(source))
    except (SyntaxError, ValueError):
        return frozenset()
    values = (node.value for node in nodes if isinstance(node, ast.Constant))
    return frozenset(" ".join(value.split()) for value in values if isinstance(value, str))


def _without_row_text(message: str, answer: Answer, own: frozenset[str]) -> str:
    """The message without quoted pieces, and runs of eight characters or more, that are in the row and not in the code."""
    if message.strip("'\"") in own:
        return message
    row = [" ".join(text.split()) for text in _texts_of_row(answer)]
    if message.strip("'\"") in row:
        return _HIDDEN
    everything = "\n".join(row)

    def hidden(quoted: re.Match[str]) -> str:
        piece = _unquoted(quoted[0])
        return f"'{_HIDDEN}'" if piece in everything and piece not in own else quoted[0]

    message = _QUOTED.sub(hidden, message)
    kept, at = [], 0
    while at < len(message):
        if len(message) - at < _RUN or message[at : at + _RUN] not in everything:
            kept.append(message[at])
            at += 1
            continue
        end = at + _RUN
        while end < len(message) and message[at : end + 1] in everything:
            end += 1
        kept.append(_HIDDEN)
        at = end
    return "".join(kept)


def _texts_of_row(answer: Answer) -> Iterator[str]:
    yield answer.text
    yield answer.prompt
    yield from answer.references
    yield from (str(cell) for cell in answer.fields.values() if not isinstance(cell, int | float))


def _unquoted(quoted: str) -> str:
    try:
        return " ".join(str(ast.literal_eval(quoted)).split())
    except (ValueError, SyntaxError):
        return quoted[1:-1]
