"""`plan` counts the answers that later turns of conversations are asked after; `bench` rejects such jobs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import batchgen
from batchgen.__main__ import call
from batchgen.bench.bench import bench
from batchgen.cli.render.plan import lines
from batchgen.errors import UsageError
from batchgen.jobfile.load import load_job
from batchgen.run.plan import plan
from tests.models.conftest import CONFIG
from tests.models.conftest import write_model as write_model
from tests.run.timing.test_estimate_time import new_machine as new_machine

MakeJob = Callable[..., Path]
Write = Callable[..., Path]
TURN = "What is the longest river of the country?"
BY_COLUMN: dict[str, Any] = {
    "input": {"columns": {"turns": "turns"}},
    "prompt": {"user": None},
}


def talks(make_job: MakeJob, most: int, times: int = 1, **sections: Any) -> Path:
    """So many times three conversations of 3, 1 and 2 turns. The echo engine repeats the prompt, up to `most` tokens of it."""
    rows = [{"turns": [TURN] * count} for count in (3, 1, 2) * times]
    return make_job(rows, **BY_COLUMN, decoding={"max_new_tokens": most}, **sections)


def test_without_a_measurement_earlier_answers_count_with_max_new_tokens(
    make_job: MakeJob,
) -> None:
    """The echo engine's answers have that length here, their first token being a control token that is not text."""
    job = talks(make_job, 19)
    planned = plan(job)
    frame = batchgen.run(job).frame()
    assert frame["output_tokens"].unique().to_list() == [19]
    read = frame["input_tokens"]
    assert planned.tokens.total == read.sum() + 4
    assert (planned.tokens.least, planned.tokens.most) == (44, 44 + 2 * 64)
    assert read.max() == 44 + 2 * 63
    assert (planned.later_turns.count, planned.later_turns.answer_tokens) == (3, None)
    assert "          3 later turns: each earlier answer counts with max_new_tokens" in lines(
        planned
    )


def test_after_a_run_they_count_with_the_mean_of_its_answers(make_job: MakeJob) -> None:
    job = talks(make_job, 500, 20, model={"engine": "paced"})
    at_first = plan(job).tokens.total
    frame = batchgen.run(job).frame()
    planned = plan(job)
    mean = frame["output_tokens"].mean()
    assert isinstance(mean, float)
    assert planned.later_turns.answer_tokens == pytest.approx(mean)
    before = 20 * 4  # one answer before each turn 2, two before turn 3
    assert planned.tokens.total == pytest.approx(at_first + before * (mean - 500), abs=before)
    assert any(f"{mean:.0f} tokens, the mean of those measured" in line for line in lines(planned))


def test_measured_rows_are_first_turns(make_job: MakeJob) -> None:
    job = talks(make_job, 500)
    planned = plan(job, measure=True)
    frame = batchgen.run(job).frame()
    first = frame.filter(turn=1)["output_tokens"].unique().to_list()
    assert planned.later_turns.answer_tokens == first[0]
    assert planned.time.source == "from 3 rows generated now"


def test_a_rendered_later_turn_shows_where_the_answer_will_be(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["plan", str(talks(make_job, 20)), "--prompts", "2"]) == 0
    assert f"<user>{TURN}<end>\n<assistant>[answer 1]<end>\n<user>" in capsys.readouterr().out


def test_turns_that_would_not_fit_are_counted(
    make_job: MakeJob, write_model: Write, tmp_path: Path
) -> None:
    folder = write_model(
        tmp_path / "model", {"config.json": {**CONFIG, "max_position_embeddings": 240}}
    )
    job = talks(make_job, 40, model={"engine": "echo", "path": str(folder)})
    planned = plan(job)
    frame = batchgen.run(job).frame()
    assert frame["output_tokens"].drop_nulls().unique().to_list() == [40]
    failed = frame["error_code"].drop_nulls().to_list()
    assert failed == ["prompt_too_long"]
    assert planned.later_turns.too_long == len(failed)
    assert any("1 of them exceed the context and fail" in line for line in lines(planned))


def test_bench_rejects_conversations(make_job: MakeJob) -> None:
    with pytest.raises(UsageError, match="later turns depend on the answers") as caught:
        bench(load_job(talks(make_job, 20)))
    assert "prompt.replay" in caught.value.hint
