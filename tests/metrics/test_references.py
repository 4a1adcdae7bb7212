"""The references of a row in their published forms, as Python objects and through Parquet, JSONL and CSV."""

import csv
import json
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchgen
from batchgen.metrics.references import read_references, text_cell

CELLS: list[tuple[object, tuple[str, ...]]] = [
    ("Paris", ("Paris",)),
    ("", ("",)),
    (None, ()),
    (18, ("18",)),
    (18.0, ("18", "18.0")),
    (0.5, ("0.5",)),
    (float("nan"), ()),
    (float("inf"), ("inf",)),
    (Decimal("1E+2"), ("100",)),
    (True, ("true", "True")),
    (date(2026, 3, 7), ("2026-03-07",)),
    (["Paris", "paris", None], ("Paris", "paris")),
    ([], ()),
    ([3, 4], ("3", "4")),
    ([["a"], ["b", "c"]], ("a", "b", "c")),
    # SQuAD: as the Hub has it, as its own JSON has it, unanswerable.
    ({"text": ["Paris", "Paris, France"], "answer_start": [10, 10]}, ("Paris", "Paris, France")),
    ([{"text": "Paris", "answer_start": 10}, {"text": "paris", "answer_start": 3}], ("Paris", "paris")),
    ({"text": [], "answer_start": []}, ()),
    # TriviaQA
    ({"value": "UK", "aliases": ["UK", "Britain"], "type": "x"}, ("UK", "Britain")),
    # In a CSV file: JSON, Python as pandas writes it, a numpy array as pandas writes it.
    ('["Paris", "paris"]', ("Paris", "paris")),
    (" ['Jupiter', \"Jove's\"]\n", ("Jupiter", "Jove's")),
    ("['Jupiter' 'jupiter'\n 'Jove']", ("Jupiter", "jupiter", "Jove")),
    ('{"text": ["Paris"], "answer_start": [3]}', ("Paris",)),
    ("{'text': ['Paris'], 'answer_start': [3]}", ("Paris",)),
    # Text that looks like a list but is none of texts: an interval, an object, a citation.
    ("[1, 2]", ("[1, 2]",)),
    ("[]", ("[]",)),
    ("[2, 5)", ("[2, 5)",)),
    ('{"city": "Paris"}', ('{"city": "Paris"}',)),
    ("[sic]", ("[sic]",)),
    ('["a", b]', ('["a", b]',)),
    ("'tis", ("'tis",)),
    ("Janet has ...\n#### 18", ("Janet has ...\n#### 18",)),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "texts"), CELLS)
def test_references_have_several_forms(cell: object, texts: tuple[str, ...]) -> None:
    found = read_references([cell])
    assert (found.texts, found.readable) == (texts, True)


@pytest.mark.parametrize(
    "cell",
    [
        {"x": 1},
        {"text": ["Paris"], "label": ["A"]},
        {"text": {"a": "b"}},
        [{"x": 1}],
        {"spans": ["a", "b"], "types": ["span", "span"]},
        b"Paris",
        ["Paris", b"Paris"],
        timedelta(seconds=1),
        "{'text': array(['Paris'], dtype=object)}",
        "['a' ... 'b']",
    ],
)
def test_other_cells_are_no_references(cell: object) -> None:
    assert not read_references([cell]).readable
    assert read_references(["fine", cell]).texts == ()


def test_a_list_that_is_the_answer_itself_is_accepted() -> None:
    cell = '["Paris", "Rome"]'
    assert read_references([cell], ' ["Paris", "Rome"]').texts == ("Paris", "Rome", cell)
    assert read_references([cell], "Paris").texts == ("Paris", "Rome")
    assert text_cell(cell).texts == (cell,)


def test_an_empty_list_is_a_question_without_an_answer() -> None:
    empty: list[object] = [[], {"text": [], "answer_start": []}, '{"text": [], "answer_start": []}']
    others: list[object] = [None, ["x"], [None], {"text": None}, "", float("nan"), "[]"]
    assert [read_references([cell]).unanswerable for cell in empty] == [True] * 3
    assert [read_references([cell]).unanswerable for cell in others] == [False] * 7


def test_whole_numbers_are_remembered() -> None:
    assert read_references([2, "3", 4.0, 0.5, True]).integers == {"2", "4", "4.0"}


ANSWERS: list[Any] = [
    {"text": ["Paris", "Paris, France"], "answer_start": [10, 10]},
    {"text": ["Jupiter"], "answer_start": [3]},
    {"text": ["Mars"], "answer_start": [3]},
]
FORMS: dict[str, list[Any]] = {
    "struct": ANSWERS,
    "list": [one["text"] for one in ANSWERS],
    "structs": [[{"text": t, "answer_start": 0} for t in one["text"]] for one in ANSWERS],
    "json": [json.dumps(one["text"]) for one in ANSWERS],
    "repr": [str(one["text"]) for one in ANSWERS],
}


@pytest.mark.parametrize("format_", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("form", FORMS)
def test_references_are_read_from_each_format(form: str, format_: str, tmp_path: Path) -> None:
    file = tmp_path / f"in.{format_}"
    rows = [
        {"id": str(number), "response": response, "answers": cell}
        for number, (response, cell) in enumerate(
            zip(["Paris", "Jupiter", "It is Mars"], FORMS[form], strict=True)
        )
    ]
    if format_ == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif format_ == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with file.open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow(rows[0])
            for row in rows:
                cells = row.values()
                writer.writerow([c if isinstance(c, str) else json.dumps(c) for c in cells])
    output = tmp_path / "out"
    batchgen.score(file, ["exact", "token_f1"], reference="answers", output=output)
    scores = pl.read_parquet(output / "scores.parquet").sort("metric", "id")
    values = scores["value"].to_list()
    assert values[:3] == [1.0, 1.0, 0.0]
    assert values[3:] == pytest.approx([1.0, 1.0, 0.5])


def test_a_cell_that_cannot_be_read_lowers_coverage(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    rows = [{"response": "Paris", "a": {"city": "Paris"}}, {"response": "Paris", "a": None}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    metrics = ["exact", "bleu", "number", "choice", "contains", "cer"]
    batchgen.score(file, metrics, reference="a", output=tmp_path / "out")
    scores = pl.read_parquet(tmp_path / "out" / "scores.parquet").sort("id")
    assert scores["value"].null_count() == 2 * len(metrics)
    assert scores["status"].to_list() == ["unparsed"] * 6 + ["no_reference"] * 6
    assert set(scores["rule"][:6]) == {"reference"}
