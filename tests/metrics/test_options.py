"""The options of a multiple choice in their published forms, as Python objects and through Parquet, JSONL and CSV."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchgen
from batchgen.metrics.options import AmbiguousReferenceError, OptionTexts, gold_labels, read_options

XY = {"A": "x", "B": "y"}

CELLS: list[tuple[object, dict[str, str]]] = [
    (["x", "y"], XY),
    (["x", "y", None], XY),
    ([1, 2.0, True], {"A": "1", "B": "2", "C": "true"}),
    ('["x", "y"]', XY),
    ("['x', 'y']", XY),
    ("['x' 'y']", XY),  # a numpy array in a CSV file of pandas
    ("{'A': 'x', 'B': 'y'}", XY),
    ('{"A": "x", "B": "y", "C": null}', XY),
    ({"A": "x", "B": "y", "C": None}, XY),
    ({"text": ["x", "y"], "label": ["A", "B"]}, XY),
    ({"text": ["x", "y"], "label": ["1", "2"]}, {"1": "x", "2": "y"}),
    ([{"key": "A", "value": "x"}, {"key": "B", "value": "y"}], XY),
    ([{"label": "A", "text": "x"}, {"label": "B", "text": "y"}], XY),
    ([{"id": 1, "text": "x"}, {"id": 2, "text": "y"}], {"1": "x", "2": "y"}),
    ([("A", "x"), ("B", "y")], XY),
    ([{"key": "A", "value": "x"}, {"key": "B", "value": "y"}, {"key": "C", "value": None}], XY),
    # None of these is compared as Python's repr.
    (None, {}),
    (3, {}),
    ("no JSON", {}),
    ("[" * 100_000, {}),
    ("[1, 2", {}),
    ("{'text': array(['x'])}", {}),
    (["x", None, "y"], {}),
    (["x", ["y"]], {}),
    ({"A": "x", "B": {"text": "y"}}, {}),
    ([{"key": "A", "value": "x"}, {"key": "A", "value": "y"}], {}),
    ([{"a": "x"}, {"b": "y"}], {}),
    ({"text": ["x", "y"], "label": ["A"]}, {}),
    (["v", "w", "x", "y", "z"], {}),  # more options than labels
    ([b"x", b"y"], {}),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "texts"), CELLS)
def test_options_have_several_forms(cell: object, texts: dict[str, str]) -> None:
    assert read_options(cell, "ABCD").texts == texts


GOLD: list[tuple[dict[str, str], bool, str, bool, set[str]]] = [
    (XY, False, "b", False, {"B"}),
    (XY, False, "1", False, {"B"}),
    (XY, False, "Y.", False, {"B"}),
    (XY, False, "2", False, set()),
    ({"A": "1", "B": "0"}, False, "1", True, {"B"}),
    ({"1": "2", "2": "1"}, True, "1", False, {"1"}),
    ({"A": "B", "B": "A"}, True, "B", False, {"B"}),
]


@pytest.mark.parametrize(("texts", "named", "reference", "integer", "labels"), GOLD)
def test_a_reference_is_a_label_a_text_or_a_number(
    texts: dict[str, str], named: bool, reference: str, integer: bool, labels: set[str]
) -> None:
    options = OptionTexts(texts, named=named)
    assert gold_labels(reference, options, integer=integer) == labels


def test_two_readings_that_disagree_are_an_error() -> None:
    for options in (OptionTexts({"A": "1", "B": "0"}), OptionTexts({"A": "B", "B": "A"})):
        for reference in options.texts.values():
            with pytest.raises(AmbiguousReferenceError):
                gold_labels(reference, options)
    numbers = OptionTexts({"A": "1", "B": "0"}, numbers=True)
    with pytest.raises(AmbiguousReferenceError):
        gold_labels("1", numbers, integer=True)


BASE: list[dict[str, str]] = [
    {"A": "Paris", "B": "Rome", "C": "Oslo", "D": "Bern"},
    {"A": "yes", "B": "no"},
]
SHAPES: dict[str, list[Any]] = {
    "map": [list(one.items()) for one in BASE],
    "pairs": [[{"key": k, "value": v} for k, v in one.items()] for one in BASE],
    "struct": [*BASE],
    "arc": [{"text": [*one.values()], "label": [*one]} for one in BASE],
    "list": [[*one.values()] for one in BASE],
    "text": [json.dumps(one) for one in BASE],
    "repr": [str(one) for one in BASE],
}


@pytest.mark.parametrize("format_", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("shape", SHAPES)
def test_options_are_read_from_each_format(shape: str, format_: str, tmp_path: Path) -> None:
    file = tmp_path / f"in.{format_}"
    columns: dict[str, Any] = {
        "id": ["1", "2"],
        "response": ["It is Paris, I think.", "None of these makes sense, so I say no"],
        "gold": ["A", "B"],
    }
    cells = SHAPES[shape]
    if format_ == "parquet":
        type_ = pa.map_(pa.string(), pa.string()) if shape == "map" else None
        pq.write_table(pa.table({**columns, "options": pa.array(cells, type_)}), file)
    else:
        if shape == "map":
            pytest.skip("an Arrow type")
        texts = [one if isinstance(one, str) else json.dumps(one) for one in cells]
        frame = pl.DataFrame({**columns, "options": cells if format_ == "jsonl" else texts})
        frame.write_ndjson(file) if format_ == "jsonl" else frame.write_csv(file)
    metric = {"type": "choice", "options": "options"}
    batchgen.score(file, [metric], reference="gold", output=tmp_path / "out")
    scores = pl.read_parquet(tmp_path / "out" / "scores.parquet").sort("id")
    assert scores["value"].to_list() == [1.0, 1.0]
    assert scores["answer"].to_list() == ["A", "B"]
    assert scores["rule"].to_list() == ["option", "option"]
