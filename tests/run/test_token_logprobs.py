"""`decoding.logprobs: N` through a whole run: publication, resume, reuse, and a change of columns."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from batchgen.errors import JobFileError, StateError
from batchgen.inspection.answer_table import RowSelection, open_answer_table
from batchgen.inspection.export import export
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.identity import read_identity
from batchgen.state.run_folder import RunFolder

MakeJob = Callable[..., Path]
ROWS = [
    {"id": "1", "q": "ab"},
    {"id": "2", "q": "mail a@b.org"},
    {"id": "3", "q": ""},
    {"id": "4", "q": "c"},
]
NEW = {"id": "5", "q": "new"}
TOLERANT = {"max_error_rate": 1}
OF_THE_RUN = ("run_id", "created_at")


def tokens(frame: pl.DataFrame, row: int) -> str | None:
    """The texts of the tokens; the roles of the prompt, which the engine repeats, have none."""
    cell = frame["logprobs"].to_list()[row]
    return None if cell is None else "".join("?" if (c := t["token"]) is None else c for t in cell)


def test_each_answer_has_its_tokens(make_job: MakeJob) -> None:
    frame = run(make_job(ROWS, decoding={"logprobs": 2}, run=TOLERANT)).frame()
    assert tokens(frame, 0) == "ab"
    assert tokens(frame, 2) is None  # the prompt is empty
    best = {"token_id": 97, "token": "a", "logprob": 0.0}
    assert frame["logprobs"].to_list()[0][1] == {**best, "top_logprobs": [best]}
    without = run(
        make_job(ROWS, decoding={"logprobs": True}, output={"path": "mean"}, run=TOLERANT)
    )
    assert without.frame().columns == [name for name in frame.columns if name != "logprobs"]


def test_redacted_answers_have_no_tokens(make_job: MakeJob) -> None:
    path = make_job(ROWS, decoding={"logprobs": 0}, redact={"apply_to": ["response"]}, run=TOLERANT)
    frame = run(path).frame()
    assert tokens(frame, 0) == "ab"
    assert tokens(frame, 1) == "?" * frame["output_tokens"][1]
    assert frame["response"][1] == "mail [EMAIL]"


def test_a_stopped_run_ends_as_an_unbroken_one(make_job: MakeJob, tmp_path: Path) -> None:
    path = make_job(ROWS, decoding={"logprobs": 1}, run=TOLERANT)
    calls = iter(range(100))
    stopped = run(path, stop=lambda: next(calls) > 0)
    assert stopped.outcome == "stopped"
    waiting = open_answer_table(stopped.folder.path)
    assert waiting.take([0])[0]["logprobs"]
    found = run(path).frame().drop(OF_THE_RUN)
    unbroken = run(make_job(ROWS, decoding={"logprobs": 1}, run=TOLERANT, output={"path": "other"}))
    assert_frame_equal(found, unbroken.frame().drop(OF_THE_RUN))
    target = tmp_path / "answers.jsonl"
    export(open_answer_table(unbroken.folder.path), RowSelection(), target)
    assert '{"token_id": 97, "token": "a", "logprob": 0.0, "top_logprobs": [' in target.read_text()


def test_reused_and_republished_answers_keep_their_tokens(make_job: MakeJob) -> None:
    settings = {"decoding": {"logprobs": 1}, "run": TOLERANT}
    first = run(make_job(ROWS, **settings))
    second = make_job([*ROWS[1:], NEW], **settings, output={"path": "next"})
    reused = run(second, incremental_from=first.folder.path)
    assert reused.incremental is not None
    assert reused.incremental.reused == 2
    frame = reused.frame()
    assert [tokens(frame, row) for row in (2, 3)] == ["c", "new"]
    prefixed = make_job([*ROWS[1:], NEW], **settings, output={"path": "next", "prefix": "x_"})
    again = run(prefixed)
    assert again.outcome == "published again"
    assert again.frame()["x_logprobs"].to_list() == frame["logprobs"].to_list()


def test_another_number_of_tokens_is_another_job(make_job: MakeJob) -> None:
    run(make_job(decoding={"logprobs": True}))
    settings = read_identity(RunFolder(make_job().parent / "out"))
    assert settings is not None
    assert "top_logprobs" not in settings.settings["decoding"]
    with pytest.raises(StateError, match="top_logprobs"):
        run(make_job(decoding={"logprobs": 0}))


def test_a_column_of_the_input_may_not_have_its_name(make_job: MakeJob) -> None:
    rows = [{"q": "a", "logprobs": 1}]
    run(make_job(rows, decoding={"logprobs": True}))
    with pytest.raises(JobFileError, match="logprobs have names of answer columns"):
        run(load_job(make_job(rows, decoding={"logprobs": 3}), overrides=["output.path=other"]))
