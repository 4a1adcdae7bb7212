"""`input.cross`: the product of rows and lists is complete, ids are unique, and chunks are read in any order."""

import json
import random
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import chisquare

from batchgen.errors import DataError, JobKeyError
from batchgen.input.chunk import Chunk
from batchgen.input.sources import open_source
from batchgen.job.spec import Input


def crossed(folder: Path, rows: list[dict[str, Any]], cross: Any, **selection: Any) -> Input:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, "utf-8")
    return Input.model_validate({"path": str(folder / "rows.jsonl"), "cross": cross, **selection})


def read(spec: Input, *, seed: int = 0, rows: int = 5) -> list[Chunk]:
    source = open_source(spec, seed=seed)
    survey = source.survey(["q"])
    return list(source.chunks(survey, rows=rows, columns=["q"]))


def rows_of(chunks: list[Chunk]) -> list[dict[str, Any]]:
    """The rows of chunks, with their full ids as `id`."""
    return [
        {**cells, "id": id_}
        for chunk in chunks
        for cells, id_ in zip(chunk.table.to_pylist(), chunk.ids, strict=True)
    ]


ROWS = [{"id": f"r{n}", "q": f"question {n}"} for n in range(7)]


def test_lists_multiply_rows_in_the_order_of_the_job(tmp_path: Path) -> None:
    spec = crossed(tmp_path, ROWS, {"lang": ["en", "zh"], "level": [1, 2, 3]})
    expected = [
        {"id": f"{row['id']}/{lang}/{level}", "q": row["q"], "lang": lang, "level": level}
        for row in ROWS
        for lang, level in product(["en", "zh"], [1, 2, 3])
    ]
    assert rows_of(read(spec)) == expected
    assert [chunk.first for chunk in read(spec)] == list(range(0, 42, 5))
    fields = [row.fields["q"] for chunk in read(spec) for row in chunk.rows()]
    assert fields == [row["q"] for row in expected]


VALUES = st.one_of(
    st.lists(st.text(min_size=1, max_size=50), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(-9, 9), min_size=1, max_size=4, unique=True),
    st.lists(
        st.sampled_from(["a/b", "b", "a", "A", " a", "é", "e\u0301", "1"]), min_size=1, unique=True
    ),
    st.just([True, False]),
)


@given(
    ids=st.lists(
        st.sampled_from(["a", "a/b", "b/b", "1", "a/1", "A", "/"]), min_size=1, unique=True
    ),
    lists=st.lists(VALUES, min_size=1, max_size=3),
    rows=st.integers(1, 9),
    order=st.randoms(),
)
def test_the_product_is_complete_and_its_ids_are_unique_in_any_order_of_parts(
    ids: list[str],
    lists: list[list[Any]],
    rows: int,
    order: random.Random,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    cross = {f"c{n}": values for n, values in enumerate(lists)}
    data = [{"id": id_, "q": id_} for id_ in ids]
    source = open_source(crossed(tmp_path_factory.mktemp("input"), data, cross), seed=0)
    survey = source.survey()
    in_order = rows_of(list(source.chunks(survey, rows=rows)))
    found = [(row["q"], *(row[name] for name in cross)) for row in in_order]
    assert found == list(product(ids, *lists))
    assert len({row["id"] for row in in_order}) == survey.rows == len(found)
    numbers = list(range(-(-survey.rows // rows)))
    order.shuffle(numbers)
    reader = source.reader(survey, rows=rows)
    parts = {number: rows_of([reader.read(number)]) for number in numbers}
    assert [row for number in sorted(parts) for row in parts[number]] == in_order


def test_drawn_values_depend_on_seed_and_id_alone(tmp_path: Path) -> None:
    cross = {"who": {"sample": ["a", "b", "c"], "weights": [3.0, 1.0, 1.0]}}
    rows = [{"id": str(n), "q": "x"} for n in range(3000)]
    drawn = {
        row["id"]: row["who"] for row in rows_of(read(crossed(tmp_path, rows, cross), rows=700))
    }
    counts = Counter(drawn.values())
    assert chisquare([counts["a"], counts["b"], counts["c"]], [1800, 600, 600]).pvalue > 1e-3
    turned = crossed(tmp_path, rows[::-3], cross, limit=500)
    again = {row["id"]: row["who"] for row in rows_of(read(turned, rows=7))}
    assert len(again) == 500
    assert again.items() <= drawn.items()
    other = {row["id"]: row["who"] for row in rows_of(read(crossed(tmp_path, rows, cross), seed=1))}
    assert sum(other[id_] != drawn[id_] for id_ in drawn) > 1000
    two = {"who": cross["who"], "too": cross["who"]}
    both = rows_of(read(crossed(tmp_path, rows, two)))
    assert sum(row["who"] != row["too"] for row in both) > 1000


def test_each_row_of_a_product_has_a_draw_of_its_own(tmp_path: Path) -> None:
    cross = {"lang": ["en", "zh"], "who": {"sample": [1, 2, 3.5]}}
    rows = rows_of(read(crossed(tmp_path, [{"id": str(n), "q": ""} for n in range(200)], cross)))
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    assert {one["who"] for one in rows} == {1.0, 2.0, 3.5}
    assert 20 < sum(one["who"] == other["who"] for one, other in pairs) < 120


def test_rows_are_selected_before_they_are_multiplied(tmp_path: Path) -> None:
    selection = {"filter": "q != 'question 1'", "limit": 2}
    rows = rows_of(read(crossed(tmp_path, ROWS, {"lang": ["en", "zh"]}, **selection)))
    assert [row["id"] for row in rows] == ["r0/en", "r0/zh", "r2/en", "r2/zh"]
    sampled = rows_of(read(crossed(tmp_path, ROWS, {"lang": ["en", "zh"]}, sample=3)))
    plain = rows_of(read(crossed(tmp_path, ROWS, {"who": {"sample": ["x"]}}, sample=3)))
    assert [row["id"] for row in sampled] == [
        f"{row['id']}/{x}" for row in plain for x in ("en", "zh")
    ]


def test_without_an_id_column_the_row_number_gets_the_suffix(tmp_path: Path) -> None:
    rows = rows_of(read(crossed(tmp_path, [{"q": "x"}, {"q": "y"}], {"lang": ["en", "zh"]})))
    assert [row["id"] for row in rows] == ["0/en", "0/zh", "1/en", "1/zh"]


def test_unreadable_rows_fail_in_every_combination(tmp_path: Path) -> None:
    rows = [{"id": id_, "q": "\ud800" if id_ == "b" else "x"} for id_ in "abc"]
    spec = crossed(tmp_path, [], {"lang": ["en", "zh"]})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    chunks = read(spec)
    failed = {index: f.code for chunk in chunks for index, f in chunk.failures.items()}
    assert failed == {2: "invalid_unicode", 3: "invalid_unicode"}
    ids = [id_ for chunk in chunks for id_ in chunk.ids]
    assert ids == ["a/en", "a/zh", "b/en", "b/zh", "c/en", "c/zh"]


def test_duplicate_ids_are_found_before_the_product(tmp_path: Path) -> None:
    spec = crossed(tmp_path, [*ROWS, ROWS[0]], {"lang": ["en", "zh"]})
    with pytest.raises(DataError, match="column 'id' repeats ids: 'r0' in"):
        open_source(spec, seed=0).survey()


def test_a_new_column_must_have_a_new_name(tmp_path: Path) -> None:
    with pytest.raises(JobKeyError, match=r"input\.cross\.q: the input has a column 'q' already"):
        open_source(crossed(tmp_path, ROWS, {"q": ["x"]}), seed=0)
    late = [*({"q": "x" * 5000} for _ in range(1500)), {"q": "x", "lang": "de"}]
    source = open_source(crossed(tmp_path, late, {"lang": ["en"]}), seed=0)
    with pytest.raises(JobKeyError, match="the input has a column 'lang' already"):
        source.survey()


@pytest.mark.parametrize(
    ("cross", "message"),
    [
        ({"lang": []}, "at least 1 item"),
        ({}, "expected one or more names of columns"),
        ({"": ["x"]}, "expected one or more names of columns"),
        ({"lang": ["en", "en"]}, "the value en is listed twice"),
        ({"lang": ["en", 1]}, "the values are of different types: a number and text"),
        ({"lang": [True, 1]}, "the values are of different types: a boolean and a number"),
        ({"who": {"sample": ["a", "b"], "weights": [1.0]}}, "weights has 1 numbers for 2 values"),
        ({"who": {"sample": ["a", "b"], "weights": [1.0, 0.0]}}, "greater than 0"),
        ({"lang": [None]}, "valid"),
        ({"lang": "en"}, "valid"),
    ],
)
def test_what_is_rejected(cross: Any, message: str) -> None:
    with pytest.raises(ValidationError) as found:
        Input.model_validate({"path": "x", "cross": cross})
    assert message in str(found.value)
