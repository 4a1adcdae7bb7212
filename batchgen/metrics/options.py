"""The reader of the options of a multiple choice: the texts of its options by label, and which of them a reference names.

["Paris", "Rome"]                              MMLU, HellaSwag: labelled in order
{A: Paris, B: Rome}                            a struct whose nulls are absent labels
[{key: A, value: Paris}, ...]                  an Arrow map; also {label, text}, {id, text}
{text: ["Paris", "Rome"], label: ["A", "B"]}   ARC
JSON of any of these, or Python as pandas writes it to CSV
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from batchgen.metrics.references import UnreadableCellError, scalar_texts, written_value
from batchgen.metrics.text import normalize

Gold = Literal["auto", "text", "label", "index"]

_PAIRS = (("key", "value"), ("label", "text"), ("key", "text"), ("id", "text"), ("label", "value"))


LABELS = (*string.ascii_uppercase, *map("".join, product(string.ascii_uppercase, repeat=2)))
"""Of options without names of their own."""


class AmbiguousReferenceError(ValueError):
    """A reference names one option by its text and another by its label or number."""


@dataclass(frozen=True, slots=True)
class OptionTexts:
    """The options of a row.

    Attributes:
        texts: by label, in order; empty where the cell has no options or cannot be read.
        named: whether the labels are the row's own; else they are those of the metric, in order.
        numbers: whether the cell holds numbers, not texts.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    named: bool = False
    numbers: bool = False


def read_options(cell: object, labels: Sequence[str]) -> OptionTexts:
    """Read a cell with the options of a multiple choice. `labels` are for options without names of their own."""
    try:
        value = written_value(cell) if isinstance(cell, str) else cell
        if isinstance(value, Mapping):
            return OptionTexts(_of_struct(value), named=True)
        if isinstance(value, list | tuple):
            return _of_list(value, labels)
    except (UnreadableCellError, RecursionError):
        pass
    return OptionTexts()


def gold_labels(
    reference: str, options: OptionTexts, gold: Gold = "auto", *, integer: bool = False
) -> set[str]:
    """The labels of the options that a reference names; empty if none.

    With `auto`, a label of the row's own comes first; and where the cell of the reference is a whole number (`integer`)
    and those of the options are texts, it is the number of an option.

    Raises:
        AmbiguousReferenceError: two readings that the job allows disagree.
    """
    texts = options.texts
    labels, form, word = list(texts), normalize(reference), reference.strip()
    is_index = word.isascii() and word.isdecimal() and len(word) < 9 and int(word) < len(labels)
    readings: dict[Gold, set[str]] = {
        "text": {label for label, text in texts.items() if normalize(text) == form},
        "label": {label for label in labels if label.casefold() == word.casefold()},
        "index": {labels[int(word)]} if is_index else set(),
    }
    if gold != "auto":
        return readings[gold]
    if options.named and readings["label"]:
        return readings["label"]
    if integer and not options.numbers and readings["index"]:
        return readings["index"]
    found = [reading for reading in readings.values() if reading]
    if any(reading != found[0] for reading in found):
        raise AmbiguousReferenceError
    return found[0] if found else set()


def _of_struct(cell: Mapping[str, object]) -> dict[str, str]:
    texts = cell.get("text", cell.get("texts"))
    names = cell.get("label", cell.get("labels"))
    if isinstance(texts, list | tuple) and isinstance(names, list | tuple):
        if len(texts) != len(names):
            raise UnreadableCellError
        return _named(list(zip(names, texts, strict=True)))
    return _named(list(cell.items()))


def _of_list(cell: Sequence[object], labels: Sequence[str]) -> OptionTexts:
    pairs = _pairs(cell)
    if pairs is not None:
        return OptionTexts(_named(pairs), named=True)
    texts = [_text(one) for one in cell]
    while texts and texts[-1] is None:  # a shorter row of a table that was wide
        texts.pop()
    known = [text for text in texts if text is not None]
    if len(known) < len(texts) or len(texts) > len(labels):
        raise UnreadableCellError
    numbers = not any(isinstance(one, str) for one in cell)
    return OptionTexts(dict(zip(labels, known, strict=False)), numbers=numbers)


def _pairs(cell: Sequence[object]) -> list[tuple[object, object]] | None:
    """Labels and texts, if each element has both."""
    structs = [one for one in cell if isinstance(one, Mapping)]
    if structs and len(structs) == len(cell):
        for label, text in _PAIRS:
            if all({label, text} <= one.keys() for one in structs):
                return [(one[label], one[text]) for one in structs]
    tuples = [(one[0], one[1]) for one in cell if isinstance(one, tuple) and len(one) == 2]
    return tuples if tuples and len(tuples) == len(cell) else None


def _named(pairs: Sequence[tuple[object, object]]) -> dict[str, str]:
    """The texts by label without nulls, which a struct has for the labels of other rows."""
    read = [(_text(label), _text(text)) for label, text in pairs]
    texts = {label: text for label, text in read if label is not None and text is not None}
    if len(texts) < sum(text is not None for _, text in read):
        raise UnreadableCellError  # a null or repeated label
    return texts


def _text(cell: object) -> str | None:
    return next(iter(scalar_texts(cell)), None)
