"""The workload of `bench`: a job's first rows, or the built-in rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchgen.bench.workload import built_in_workload, job_workload
from batchgen.jobfile.load import LoadedJob
from batchgen.run.preflight.input_check import check_input
from tests.conftest import MakeJob


def fields(loaded: LoadedJob) -> Iterator[dict[str, Any]]:
    checked = check_input(loaded)
    survey = checked.source.survey()
    for chunk in checked.source.chunks(survey, rows=10_000, columns=("request", "most")):
        yield from (dict(row.fields) for row in chunk.rows())


@pytest.mark.parametrize("rows", [1, 48, 300])
def test_the_built_in_rows_have_the_requested_number_and_all_differ(
    tmp_path: Path, rows: int
) -> None:
    loaded = built_in_workload(tmp_path, model="demo:smollm2-135m", rows=rows, overrides=())
    texts = [row["request"] for row in fields(loaded)]
    assert len(set(texts)) == len(texts) == rows


def test_the_built_in_rows_are_english_and_chinese_long_and_short(tmp_path: Path) -> None:
    loaded = built_in_workload(tmp_path, model="demo:smollm2-135m", rows=48, overrides=())
    rows = list(fields(loaded))
    chinese = [row for row in rows if any("\u4e00" <= c <= "\u9fff" for c in row["request"])]
    assert 12 <= len(chinese) <= 30
    assert {row["most"] for row in rows} == {16, 32, 64, 128}
    lengths = sorted(len(row["request"]) for row in rows)
    assert lengths[0] < 30
    assert lengths[-1] > 300


def test_settings_reach_the_built_in_job(tmp_path: Path) -> None:
    loaded = built_in_workload(
        tmp_path, model="some/model", rows=2, overrides=("model.dtype=bfloat16",)
    )
    assert (loaded.job.model.path, loaded.job.model.dtype) == ("some/model", "bfloat16")


@pytest.mark.parametrize(
    ("limit", "rows", "kept"),
    [
        pytest.param(None, 2, 2, id="the first ones"),
        pytest.param(1, 2, 1, id="the job wants fewer"),
        pytest.param(3, 2, 2, id="the job wants more"),
        pytest.param(None, 9, 9, id="more than there are"),
    ],
)
def test_the_first_rows_of_a_job_are_used(
    make_job: MakeJob, limit: int | None, rows: int, kept: int
) -> None:
    job = make_job([{"q": str(n)} for n in range(4)], input={"limit": limit})
    loaded = job_workload(job, model=None, rows=rows, overrides=(), profile=None)
    assert loaded.job.input.limit == kept


def test_another_model_keeps_the_rest_of_the_section(make_job: MakeJob) -> None:
    job = make_job(model={"engine": "transformers", "path": "one", "dtype": "float16"})
    loaded = job_workload(job, model="it's/other", rows=1, overrides=(), profile=None)
    assert (loaded.job.model.path, loaded.job.model.dtype) == ("it's/other", "float16")


def test_another_model_for_a_job_whose_model_is_a_plain_text(make_job: MakeJob) -> None:
    job = make_job()
    job.write_text(job.read_text().replace("model:\n  engine: echo", "model: one"))
    assert (
        job_workload(job, model="two", rows=1, overrides=(), profile=None).job.model.path == "two"
    )
