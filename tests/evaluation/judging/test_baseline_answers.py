"""Another run's answers: found by id and sample, and only if the prompt is the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import StateError, UsageError
from batchgen.evaluation.judging.baseline_answers import (
    AnswerKey,
    BaselineAnswer,
    find_baseline_answers,
    open_baseline,
)
from batchgen.jobfile.load import load_job
from batchgen.run.run import run

MakeJob = Callable[..., Path]
ROWS: list[dict[str, str | None]] = [
    {"id": "a", "q": "one"},
    {"id": "b", "q": "two"},
    {"id": "c", "q": None},
    {"id": "d", "q": "four"},
]


@pytest.fixture
def folder(make_job: MakeJob) -> Path:
    job = make_job(
        ROWS,
        batching={"part_rows": 1},
        decoding={"n": 2, "temperature": 1},
        run={"max_error_rate": 1},
    )
    return run(load_job(job)).folder.path


def test_answers_are_found_by_id_and_sample(folder: Path) -> None:
    keys = [("d", 1), ("a", 0), ("c", 0), ("b", 1), ("b", 2), ("z", 0)]
    found = find_baseline_answers(
        open_baseline(folder), [AnswerKey(*key, prompt_hash=None) for key in keys]
    )
    assert found == list(map(BaselineAnswer, ["four", "one", None, "two", None, None]))


def test_only_answers_to_the_same_prompt_are_used(folder: Path) -> None:
    import polars as pl

    hashes = dict(pl.read_parquet(folder / "responses.parquet").select("id", "prompt_hash").rows())
    keys = [AnswerKey("a", 0, hashes["a"]), AnswerKey("b", 0, hashes["a"])]
    found = find_baseline_answers(open_baseline(folder), keys)
    assert found == [BaselineAnswer("one"), BaselineAnswer(None, different_prompt=True)]


def test_parts_and_column_prefixes_are_supported(make_job: MakeJob) -> None:
    job = make_job(
        ROWS[:2], output={"layout": "parts", "prefix": "out_"}, batching={"part_rows": 1}
    )
    baseline = open_baseline(run(load_job(job)).folder.path)
    found = find_baseline_answers(baseline, [AnswerKey("b", 0, None), AnswerKey("a", 0, None)])
    assert found == [BaselineAnswer("two"), BaselineAnswer("one")]


def test_an_incomplete_run_is_not_a_baseline(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the output folder of a complete run"):
        open_baseline(tmp_path)


def test_a_changed_file_is_an_error(folder: Path) -> None:
    with (folder / "responses.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(StateError, match="was changed or damaged"):
        open_baseline(folder)
