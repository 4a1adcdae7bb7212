"""The reader of reference cells: which texts a cell accepts, in each published form. Nothing is compared as Python's repr.

"Paris" · 18 · true                                  text, number, boolean
["Paris", "paris"]                                   a list, or as text: JSON, or Python as pandas writes it to CSV
{text: [...], answer_start: [...]}                   SQuAD, or a list of {text, answer_start}
{value, aliases, ...}                                TriviaQA
"""

import ast
import io
import json
import math
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from itertools import pairwise


class UnreadableCellError(ValueError):
    """A cell is in none of the forms that a reader accepts."""


@dataclass(frozen=True, slots=True)
class References:
    """The accepted texts of a row.

    Attributes:
        texts: in the order of the cells.
        integers: those whose cells are whole numbers, not text: gold options by number, as in MMLU.
        readable: whether every cell is in a form that the reader accepts.
        unanswerable: whether a cell is an empty list, as for the questions without an answer of SQuAD 2.0.
    """

    texts: tuple[str, ...] = ()
    integers: frozenset[str] = frozenset()
    readable: bool = True
    unanswerable: bool = False


def read_references(cells: Sequence[object], response: str | None = None) -> References:
    """Read the reference cells of a row; any one of the texts is right.

    A text that contains a list of texts is that list; where the response begins with a bracket as well, the whole text
    is accepted too, because the task may be to write a list.
    """
    listed = (response or "").lstrip().startswith("[")
    texts: list[str] = []
    integers: set[str] = set()
    try:
        for cell in cells:
            found = _cell_texts(cell, listed)
            texts += found
            integers |= set(found) if _is_whole(cell) else set()
    except (UnreadableCellError, RecursionError):
        return References(readable=False)
    unanswerable = not texts and any(map(_is_empty, cells))
    return References(tuple(texts), frozenset(integers), unanswerable=unanswerable)


def text_cell(cell: object) -> References:
    """Read a cell whose text is meant as it stands, without a list within it."""
    return References((cell,)) if isinstance(cell, str) else read_references([cell])


def scalar_texts(cell: object) -> tuple[str, ...]:
    """The text of a cell that is not nested, in its usual spellings: 18.0 is `18` and `18.0`; none for null and NaN.

    Raises:
        UnreadableCellError: a list, a struct, bytes, or a span of time.
    """
    if isinstance(cell, bool):
        return ("true", "True") if cell else ("false", "False")
    if isinstance(cell, float):
        return _float_texts(cell)
    if isinstance(cell, Decimal):
        return (format(cell, "f"),)
    if isinstance(cell, str | int | datetime | date | time):
        return (str(cell),)
    if cell is None:
        return ()
    raise UnreadableCellError


def _float_texts(number: float) -> tuple[str, ...]:
    if math.isnan(number):
        return ()
    whole = number.is_integer() and abs(number) < 2**53
    return (str(int(number)), str(number)) if whole else (str(number),)


def _is_whole(cell: object) -> bool:
    whole = isinstance(cell, int) or (isinstance(cell, float) and cell.is_integer())
    return whole and not isinstance(cell, bool)


def _is_empty(cell: object) -> bool:
    """Whether a cell is an empty list, or SQuAD's struct with one."""
    value = written_value(cell) if isinstance(cell, str) else cell
    return (value.get("text") if isinstance(value, Mapping) else value) == []


def _cell_texts(cell: object, listed: bool) -> tuple[str, ...]:
    if isinstance(cell, str):
        return _written(cell, listed)
    if isinstance(cell, Mapping):
        return _struct_texts(cell)
    if isinstance(cell, list | tuple):
        return tuple(
            text
            for one in cell
            for text in ((one,) if isinstance(one, str) else _cell_texts(one, listed))
        )
    return scalar_texts(cell)


def _struct_texts(cell: Mapping[str, object]) -> tuple[str, ...]:
    if "text" in cell and "label" not in cell:
        return _plain_texts(cell["text"])
    if {"value", "aliases"} <= cell.keys():
        return tuple(dict.fromkeys((*_plain_texts(cell["value"]), *_plain_texts(cell["aliases"]))))
    raise UnreadableCellError


def _plain_texts(cell: object) -> tuple[str, ...]:
    inner = cell if isinstance(cell, list | tuple) else [cell]
    return tuple(text for one in inner for text in scalar_texts(one))


def _written(text: str, listed: bool) -> tuple[str, ...]:
    """The texts of a cell of text: itself, or those of the list or the struct that it contains."""
    found = written_value(text)
    # A list of numbers may be an interval or a point: only texts are alternatives.
    holds_text = isinstance(found, list) and any(isinstance(one, str | Mapping) for one in found)
    if not holds_text and not isinstance(found, Mapping):
        return (text,)
    try:
        texts = _cell_texts(found, listed=False)
    except UnreadableCellError:
        return (text,)  # JSON may be the answer itself
    return (*texts, text) if listed else texts


def written_value(text: str) -> object:
    """The list or mapping that a text contains, in JSON, or in Python as pandas writes it; else None.

    Raises:
        UnreadableCellError: Python that cannot be read, such as `{'text': array(...)}`.
    """
    bare = text.strip()
    if not bare.startswith(("[", "{")) or not bare.endswith(("]", "}")):
        return None
    try:
        return json.loads(bare)
    except (ValueError, RecursionError):
        pass
    inside = bare[1:].lstrip()
    return _python_value(bare) if inside.startswith(("'", '"')) else None


def _python_value(text: str) -> object:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        kinds = [
            token.type for token in tokens if token.string.strip() and token.type != tokenize.NL
        ]
        if tokenize.STRING in kinds and _adjacent_strings(kinds):
            return _array_texts([token for token in tokens if token.string.strip()])
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, tokenize.TokenError, MemoryError, RecursionError) as error:
        # JSON that is cut or has a mistake is text like any other.
        if text[1:].lstrip().startswith("'"):
            raise UnreadableCellError from error
        return None
    return value if isinstance(value, list | dict) else None


def _adjacent_strings(kinds: Sequence[int]) -> bool:
    return any(one == other == tokenize.STRING for one, other in pairwise(kinds))


def _array_texts(tokens: Sequence[tokenize.TokenInfo]) -> list[object]:
    """The texts of `['a' 'b']`, as numpy writes an array; Python's own reading would join them."""
    inner = tokens[1:-1]
    if any(token.type != tokenize.STRING for token in inner):
        raise UnreadableCellError
    return [ast.literal_eval(token.string) for token in inner]
