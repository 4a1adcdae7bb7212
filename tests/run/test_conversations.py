"""Conversations: each turn is asked after the model's own answers, in any batches, after stops, kills and failures."""

import json
import random
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.errors import JobFileError
from batchgen.evaluation.comparing.compare import compare
from batchgen.inspection.status import status
from batchgen.inspection.verify import verify
from batchgen.jobfile.load import load_job
from batchgen.run.plan import plan
from batchgen.run.run import run
from batchgen.run.shards.merge_shards import NoExecutor
from batchgen.run.shards.shard_run import run_shard
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.shard import Shard
from batchgen.storage.failpoints import VARIABLE
from tests.conftest import MakeJob

TALKS: list[dict[str, object]] = [
    {"id": "a", "turns": ["one?", "two?", "three?"], "gold": ["1", "2", "3"]},
    {"id": "b", "turns": ["only?"], "gold": ["4"]},
    {"id": "c", "turns": ["first?", "second?"], "gold": ["5"]},
]
BY_COLUMN: dict[str, Any] = {
    "input": {"columns": {"turns": "turns"}},
    "prompt": {"user": None, "system": "Be brief."},
}
VOLATILE = ["run_id", "created_at"]


def asked(frame: pl.DataFrame) -> dict[str, list[tuple[str, str]]]:
    """The prompt of each row, by id."""
    return {
        row["id"]: [(m["role"], m["content"]) for m in row["messages"] or []]
        for row in frame.to_dicts()
    }


def answers(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.drop(VOLATILE).to_dicts()


def test_each_turn_is_asked_after_the_answers_to_those_before_it(make_job: MakeJob) -> None:
    frame = run(make_job(TALKS, **BY_COLUMN)).frame()
    assert frame["id"].to_list() == ["a/1", "a/2", "a/3", "b/1", "c/1", "c/2"]
    assert frame["turn"].to_list() == [1, 2, 3, 1, 1, 2]
    assert frame["finish_reason"].unique().to_list() == ["stop"]
    prompts, text = asked(frame), dict(frame.select("id", "response").iter_rows())
    assert prompts["a/3"] == [
        ("system", "Be brief."),
        ("user", "one?"),
        ("assistant", text["a/1"]),
        ("user", "two?"),
        ("assistant", text["a/2"]),
        ("user", "three?"),
    ]
    assert prompts["c/1"] == [("system", "Be brief."), ("user", "first?")]


def test_turns_are_templates_which_read_the_row_and_the_number_of_the_turn(
    make_job: MakeJob,
) -> None:
    turns = ["Name {{ q }}.", "Turn {{ turn }}: shorter, please."]
    path = make_job(
        [{"q": "x"}, {"q": "y"}],
        prompt={"user": None, "turns": turns, "prefill": "Well"},
        output={"keep_columns": "none"},
    )
    frame = run(path).frame()
    assert frame["turn"].to_list() == [1, 2, 1, 2]
    text = dict(frame.select("id", "response").iter_rows())
    assert asked(frame)["1/2"] == [
        ("user", "Name y."),
        ("assistant", f"Well{text['1/1']}"),
        ("user", "Turn 2: shorter, please."),
    ]


def test_json_text_is_a_list_of_turns_and_each_sample_has_its_own_conversation(
    make_job: MakeJob,
) -> None:
    rows = [{**row, "turns": json.dumps(row["turns"])} for row in TALKS]
    sampled = {"temperature": 1.0, "num_return_sequences": 3, "max_new_tokens": 9}
    frame = run(make_job(rows, **BY_COLUMN, decoding=sampled)).frame()
    assert frame.height == 18
    assert frame.select("id", "sample").n_unique() == 18
    assert frame["seed"].n_unique() == 18
    for row in frame.filter(pl.col("turn") == 2).to_dicts():
        first = f"{row['id'][0]}/1"
        (before,) = frame.filter((pl.col("id") == first) & (pl.col("sample") == row["sample"])).to_dicts()  # fmt: skip
        assert row["messages"][2]["content"] == before["response"]


def test_recorded_answers_are_replayed(make_job: MakeJob) -> None:
    chat = [("user", "1?"), ("assistant", "r1"), ("user", "2?"), ("assistant", "r2"), ("user", "3?")]  # fmt: skip
    rows = [
        {"id": "a", "m": [{"role": role, "content": text} for role, text in chat]},
        {"id": "b", "m": [{"from": "human", "value": "x?"}, {"from": "gpt", "value": "y"}]},
    ]
    rows[1]["m"] = json.dumps(rows[1]["m"])
    rows[0]["m"] = json.dumps(rows[0]["m"])
    path = make_job(rows, input={"columns": {"messages": "m"}}, prompt={"user": None, "replay": "recorded"})  # fmt: skip
    frame = run(path).frame()
    assert frame["id"].to_list() == ["a/1", "a/2", "a/3", "b/1"]
    assert frame["recorded"].to_list() == ["r1", "r2", None, "y"]
    assert asked(frame)["a/3"] == chat
    assert asked(frame)["a/2"] == chat[:3]
    assert asked(frame)["b/1"] == [("user", "x?")]


def test_the_turns_after_a_failed_one_fail(make_job: MakeJob) -> None:
    rows: list[dict[str, object]] = [
        {"id": "long", "turns": ["a" * 150, "b", "c", "d"]},
        {"id": "none", "turns": None},
        {"id": "mixed", "turns": ["x", 3, "y"]},
        {"id": "empty", "turns": ["x", " ", "z"]},
        {"id": "fine", "turns": ["x", "y"]},
    ]
    rows = [{**row, "turns": row["turns"] and json.dumps(row["turns"])} for row in rows]
    path = make_job(
        rows, **BY_COLUMN, decoding={"max_new_tokens": 80}, model={"max_model_len": 300},
        run={"max_error_rate": 1},
    )  # fmt: skip
    frame = run(path).frame()
    codes = dict(frame.select("id", "error_code").iter_rows())
    assert codes == {
        "long/1": None, "long/2": "prompt_too_long", "long/3": "earlier_turn_failed", "long/4": "earlier_turn_failed",
        "none/1": "prompt_null",
        "mixed/1": "invalid_messages", "mixed/2": "earlier_turn_failed", "mixed/3": "earlier_turn_failed",
        "empty/1": None, "empty/2": "prompt_empty", "empty/3": "earlier_turn_failed",
        "fine/1": None, "fine/2": None,
    }  # fmt: skip
    assert frame.filter(pl.col("error_code") == "earlier_turn_failed")["finish_reason"].unique().to_list() == ["error"]  # fmt: skip


def test_the_turns_after_a_skipped_one_are_skipped(make_job: MakeJob) -> None:
    rows = [{"id": "a", "turns": [" ", "x"]}, {"id": "b", "turns": ["x", "y"]}]
    sections: dict[str, Any] = {**BY_COLUMN, "input": {"columns": {"turns": "turns"}, "on_empty_prompt": "skip"}}  # fmt: skip
    frame = run(make_job(rows, **sections)).frame()
    assert frame["finish_reason"].to_list() == ["skipped", "skipped", "stop", "stop"]


LENGTHS = st.lists(st.integers(1, 4), min_size=1, max_size=7)


@settings(max_examples=8, deadline=None)
@given(
    lengths=LENGTHS,
    part_rows=st.integers(1, 6),
    samples=st.integers(1, 2),
    stops=st.lists(st.integers(0, 9), min_size=1, max_size=2),
)
def test_a_run_that_stops_anywhere_ends_with_the_rows_of_an_unbroken_one(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    part_rows: int,
    samples: int,
    stops: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("talk")
    rows = [{"id": f"r{at}", "turns": [f"{at}.{n}" for n in range(count)]} for at, count in enumerate(lengths)]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = {
        "version": 1,
        "name": "talk",
        "input": {"path": "rows.jsonl", "columns": {"turns": "turns"}},
        "model": {"engine": "echo"},
        "decoding": {"num_return_sequences": samples, "temperature": 0.5 if samples > 1 else 0},
        "batching": {"part_rows": part_rows},
        "output": {"path": "out"},
    }
    (folder / "job.json").write_text(json.dumps(job))
    unbroken = run(load_job(folder / "job.json", overrides=["output.path=whole"])).frame()
    assert unbroken.height == sum(lengths) * samples
    for stop in stops:
        left = iter([False] * stop)
        run(folder / "job.json", stop=partial(next, left, True))
    assert answers(run(folder / "job.json").frame()) == answers(unbroken)


@pytest.mark.parametrize("point", ["journal.after_commit", "part.before_link:2", "part.after_link:3"])  # fmt: skip
def test_a_killed_run_is_resumed(make_job: MakeJob, point: str, tmp_path: Path) -> None:
    chance = random.Random(5)
    rows = [{"id": at, "turns": ["x"] * chance.randint(1, 5)} for at in range(200)]
    path = make_job(rows, **BY_COLUMN, batching={"part_rows": 32})
    # Unless it is stopped, the run ends before the first commit of its journal.
    stopped = ("--set", "run.max_runtime=0s") if point.startswith("journal") else ()
    command = [sys.executable, "-m", "batchgen", "run", str(path), *stopped]
    killed = subprocess.run(command, env={VARIABLE: point, "PATH": ""}, capture_output=True, check=False)  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    whole = run(load_job(path, overrides=[f"output.path={tmp_path / 'whole'}"])).frame()
    assert answers(run(path).frame()) == answers(whole)


def test_turns_are_reused_where_the_conversation_up_to_them_is_unchanged(
    make_job: MakeJob, tmp_path: Path
) -> None:
    first = run(make_job(TALKS, **BY_COLUMN, output={"path": "first"}))
    more = [{**TALKS[0], "turns": ["one?", "TWO?", "three?"]}, *TALKS[1:], {"id": "d", "turns": ["x", "y"], "gold": []}]  # fmt: skip
    path = make_job(more, **BY_COLUMN)
    planned = plan(path, incremental_from=tmp_path / "first").reuse
    assert planned
    assert (planned.reused, planned.counted) == (3, 4)  # of first turns
    second = run(path, incremental_from=tmp_path / "first")
    old = set(second.frame().filter(pl.col("run_id") == first.run_id)["id"])
    assert old == {"a/1", "b/1", "c/1", "c/2"}
    fresh = run(load_job(path, overrides=["output.path=fresh"])).frame()
    assert answers(second.frame()) == answers(fresh)


def test_the_answered_turns_of_a_conversation_that_failed_are_reused(
    make_job: MakeJob, tmp_path: Path
) -> None:
    rows = [{"id": "a", "turns": ["x", "y" * 200, "z"]}, {"id": "b", "turns": ["x"]}]
    sections: dict[str, Any] = {**BY_COLUMN, "prompt": {"user": None, "max_input_tokens": 100}, "run": {"max_error_rate": 1}}  # fmt: skip
    first = run(make_job(rows, **sections, output={"path": "first"}))
    second = run(make_job(rows, **sections), incremental_from=tmp_path / "first").frame()
    assert set(second.filter(pl.col("run_id") == first.run_id)["id"]) == {"a/1", "b/1"}
    assert answers(second) == answers(first.frame())


def test_failed_turns_are_generated_again(make_job: MakeJob) -> None:
    rows = [{"id": "a", "turns": ["x", "y" * 200, "z"]}, {"id": "b", "turns": ["x"]}]
    sections: dict[str, Any] = {**BY_COLUMN, "prompt": {"user": None, "max_input_tokens": 100}}
    path = make_job(rows, **sections, run={"max_error_rate": 1}, decoding={"max_new_tokens": 20})
    before = run(path).frame()
    assert before["error_code"].to_list() == [None, "prompt_too_long", "earlier_turn_failed", None]
    after = run(path, start="retry-errors").frame()
    assert answers(after) == answers(before)


def test_prompts_that_were_not_stored_are_written_later(make_job: MakeJob) -> None:
    stored = answers(run(make_job(TALKS, **BY_COLUMN, output={"path": "stored"})).frame())
    run(make_job(TALKS, **BY_COLUMN, output={"store_prompt": False}))
    again = run(make_job(TALKS, **BY_COLUMN, output={"store_prompt": True}))
    assert answers(again.frame()) == stored


def test_personal_data_in_an_answer_is_redacted_for_the_next_turn(make_job: MakeJob) -> None:
    rows = [{"id": "a", "turns": ["write to me@example.com", "again"]}]
    redact = {"entities": ["email"], "apply_to": ["response"]}
    prompt = asked(run(make_job(rows, **BY_COLUMN, redact=redact)).frame())["a/2"]
    assert ["me@example.com" in text for _, text in prompt] == [False, True, False, False]


def test_a_budget_ends_a_run_between_turns_and_is_never_exceeded(make_job: MakeJob) -> None:
    path = make_job(TALKS, **BY_COLUMN, decoding={"max_new_tokens": 20}, run={"max_total_tokens": 150})  # fmt: skip
    stopped = run(path)
    assert stopped.outcome == "stopped"
    assert stopped.counts.input_tokens + stopped.counts.output_tokens <= 150
    done = run(load_job(path, overrides=["run.max_total_tokens=5000"]))
    assert done.frame().height == 6


def test_shards_have_whole_conversations(make_job: MakeJob) -> None:
    lengths = [1 + at % 4 for at in range(30)]
    rows = [{"id": at, "turns": ["x"] * count} for at, count in enumerate(lengths)]
    path = make_job(rows, **BY_COLUMN, batching={"part_rows": 5})
    for index in (1, 0):
        assert run_shard(path, Shard(index, 2)).outcome == "sealed"
    merged = run(path, executor=NoExecutor(RunFolder(path.parent / "out")))
    whole = run(load_job(path, overrides=["output.path=whole"]))
    assert answers(merged.frame()) == answers(whole.frame())
    assert verify(merged.folder).issues == []
    assert status(path.parent / "out").counts.rows == sum(lengths)


def test_scores_know_the_turn_and_its_reference(make_job: MakeJob, tmp_path: Path) -> None:
    columns = {"columns": {"turns": "turns", "per_turn": {"right": "gold"}}}
    metrics = [{"type": "exact"}, {"type": "exact", "name": "second", "where": "turn = 2"}]
    score = {"reference": "right", "slices": ["turn"], "metrics": metrics}
    frame = run(make_job(TALKS, prompt={"user": None}, input=columns, evaluate=score)).frame()
    assert frame["right"].to_list() == ["1", "2", "3", "4", "5", None]
    assert frame["score_second"].is_not_null().to_list() == [False, True, False, False, False, False]  # fmt: skip
    found = pl.read_parquet(tmp_path / "out" / "metrics.parquet")
    counted = {(m, s): n for m, s, n in found.select("metric", "slice", "n").iter_rows()}
    assert counted["exact", "turn=2"] == counted["second", "all"] == 1
    assert counted["exact", "turn=1"] == 3
    changed = run(make_job(TALKS, prompt={"user": None, "system": "Short."}, input=columns, evaluate=score, output={"path": "new"}))  # fmt: skip
    compared = compare(tmp_path / "out", changed.folder.path, pair_changed_prompts=True)
    assert compared.common == 6


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"prompt": {"user": None, "turns": []}, "input": {}}, "prompt.turns"),
        ({"prompt": {"replay": "recorded"}}, "prompt.replay has no effect"),
        ({"input": {"columns": {"per_turn": {"gold": "g"}}}}, "input.columns.per_turn has no effect"),
        ({"prompt": {"user": None, "turns": ["x"], "on_overflow": "truncate_left"}}, "is not cut"),
        ({"prompt": {"user": None, "turns": ["{{ w }}"]}}, "column 'w' is not in the input"),
        ({"prompt": {"user": None}, "input": {"columns": {"turns": "w"}}}, "'w' is not in the input"),
        ({"prompt": {"user": None, "turns": ["x"]}, "input": {"columns": {"per_turn": {"r": "w"}}}}, "column 'w' is not"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_rejected(
    make_job: MakeJob, sections: dict[str, Any], words: str
) -> None:
    with pytest.raises(JobFileError, match=words):
        run(make_job(**sections))


def test_a_column_of_the_name_turn_is_rejected(make_job: MakeJob) -> None:
    with pytest.raises(JobFileError, match="has a column 'turn' already"):
        run(make_job([{"turn": 3, "turns": ["x"]}], **BY_COLUMN))
