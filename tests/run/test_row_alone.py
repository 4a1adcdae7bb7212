"""A row's prompt, id, seeds and fingerprint are equal alone and among any neighbours."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.jobfile.load import load_job
from batchgen.run.requests import PendingRow
from batchgen.run.run import run
from batchgen.run.setup import set_up

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text("ab1 é", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
ROW = st.fixed_dictionaries({"v": JSON, "most": st.integers(1, 9)}, optional={"w": JSON, "x": JSON})
TEMPLATE = "row: {% if v is not none %}{{ v | tojson }}{% endif %} {% if w is not none %}{{ w | tojson }}{% endif %}"


def prepared(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[PendingRow]:
    folder.mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text, "utf-8")
    job = {
        "version": 1,
        "name": "alone",
        "input": {"path": "rows.jsonl"},
        "prompt": {"user": TEMPLATE},
        "decoding": {"columns": {"max_new_tokens": "most"}},
        "model": {"engine": "echo"},
        "output": {"path": "out"},
    }
    (folder / "job.yaml").write_text(json.dumps(job), "utf-8")
    return list(set_up(load_job(folder / "job.yaml")).pending_rows())


@pytest.mark.soak
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=2, max_size=6))
def test_a_row_does_not_depend_on_its_neighbours(
    rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    # Every row has all columns that the templates name; which others it has differs.
    rows = [{"id": number, "w": None, **row} for number, row in enumerate(rows)]
    together = prepared(folder / "together", rows)
    for number, row in enumerate(rows):
        (alone,) = prepared(folder / str(number), [row])
        for name in ("id", "messages", "prompt_hash", "row_fingerprint", "seeds", "token_ids", "decoding"):  # fmt: skip
            assert getattr(together[number], name) == getattr(alone, name), name


def test_a_row_of_another_shape_leaves_the_others_reusable(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "v": {"A": "yes"}, "w": 5, "most": 3},
        {"id": 2, "v": {"A": "no"}, "w": 7, "most": 3},
    ]
    prepared(tmp_path / "one", rows)
    prepared(tmp_path / "two", [*rows, {"id": "c", "v": {"B": 5.5}, "w": "x", "most": 3.0}])
    run(load_job(tmp_path / "one" / "job.yaml"))
    second = load_job(tmp_path / "two" / "job.yaml")
    result = run(second, incremental_from=tmp_path / "one" / "out")
    assert result.incremental is not None
    assert (result.incremental.reused, result.incremental.generated) == (2, 1)
