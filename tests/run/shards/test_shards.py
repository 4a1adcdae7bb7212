"""Shards of a run in one folder: the rows of a single process, each part sealed once, whatever is started where."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.errors import BatchgenError, LockedError, StateError, UsageError
from batchgen.input.sources import InputSource, Survey
from batchgen.inspection.status import status
from batchgen.inspection.verify import verify
from batchgen.jobfile.load import LoadedJob, load_job
from batchgen.planning.host_processor import read_processor
from batchgen.run.result import RunResult
from batchgen.run.run import run
from batchgen.run.shards.merge_shards import NoExecutor, check_begun
from batchgen.run.shards.shard_run import run_shard
from batchgen.state.lock import hold_lock
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.members import join, members
from batchgen.state.shards.shard import Shard, parse_shard
from batchgen.state.shards.survey_file import survey_path
from batchgen.state.sqlite_journal import saved_answers

MakeJob = Callable[..., Path]
OF_THE_RUN = ("run_id", "created_at")
ROWS = [{"q": f"question {n} " + "x" * (n % 23), "n": n} for n in range(130)]


@pytest.fixture
def job(make_job: MakeJob) -> Path:
    return make_job(ROWS, batching={"part_rows": 10}, evaluate={"metrics": ["length"]})


def folder_of(job: Path) -> RunFolder:
    return RunFolder(job.parent / "out")


def merge(job: Path | LoadedJob) -> RunResult:
    loaded = job if isinstance(job, LoadedJob) else load_job(job)
    return run(loaded, executor=NoExecutor(RunFolder(Path(loaded.job.output.path))))


def rows(result: RunResult) -> pl.DataFrame:
    return result.frame().drop(OF_THE_RUN)


def whole(job: Path) -> pl.DataFrame:
    """The rows of a single process."""
    return rows(run(load_job(job, overrides=["output.path=whole"])))


def stop_after(answers: int) -> Callable[[], bool]:
    """A stop that is requested when it was looked for so often, about once an answer."""
    left = iter(range(answers))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_shards_make_the_rows_of_a_single_process(job: Path, order: tuple[int, ...]) -> None:
    for index in order:
        made = run_shard(job, Shard(index, 3))
        assert (made.outcome, made.exit_code, made.shard) == ("sealed", 0, f"{index}/3")
        assert made.counts.rows == made.expected_rows == (50 if index == 0 else 40)
    done = merge(job)
    assert done.outcome == "done"
    assert rows(done).equals(whole(job))
    assert verify(done.folder).issues == []
    assert not done.folder.shards.exists()
    manifest = json.loads(done.folder.manifest.read_text())
    machines = manifest["engine"]["machines"]
    assert [(one["shard"], one["parts"]) for one in machines] == [
        ("0/3", 5),
        ("1/3", 4),
        ("2/3", 4),
    ]
    assert manifest["seconds"] == max(one["seconds"] for one in machines) > 0
    assert manifest["load_seconds"] == max(one["load_seconds"] for one in machines)
    assert manifest["engine"]["processors"] == [read_processor().name]


def write_tiny_model(write_model: Callable[..., Path], folder: Path) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=260,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        eos_token_id=257,
    )
    model = write_model(folder / "tiny")
    LlamaForCausalLM(config).save_pretrained(model)
    return model


@pytest.mark.soak
def test_the_shards_of_a_model_make_the_rows_of_a_single_process(
    make_job: MakeJob, write_model: Callable[..., Path], tmp_path: Path
) -> None:
    write_tiny_model(write_model, tmp_path)
    job = make_job(
        ROWS[:28],
        model={"engine": "transformers", "path": "./tiny"},
        decoding={"max_new_tokens": 8, "temperature": 0.8, "num_return_sequences": 2},
        batching={"part_rows": 7},
    )
    run_shard(job, Shard(1, 2))
    run_shard(job, Shard())
    done = merge(job)
    assert rows(done).equals(whole(job))
    machines = json.loads(done.folder.manifest.read_text())["engine"]["machines"]
    assert [(one["shard"], one["parts"]) for one in machines] == [("1/2", 2), ("any", 2)]
    assert all(one["processor"] for one in machines)


@pytest.mark.soak
def test_another_model_is_refused_by_name(
    make_job: MakeJob, write_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = write_tiny_model(write_model, tmp_path)
    job = make_job(
        ROWS[:6],
        model={"engine": "transformers", "path": "./tiny"},
        decoding={"max_new_tokens": 8},
    )
    begun = merge(job)
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(StateError, match=r"was made by another job: model"):
        run_shard(job, Shard(0, 2))
    assert begun.counts.rows == 0


def test_a_worker_claims_every_part(job: Path) -> None:
    made = run_shard(job, Shard())
    assert (made.outcome, made.counts.rows) == ("sealed", 130)
    assert len(list(made.folder.claims.iterdir())) == 13
    done = merge(job)
    assert rows(done).equals(whole(job))
    assert not done.folder.claims.exists()


def test_workers_at_the_same_time_share_the_parts(job: Path) -> None:
    expected = whole(job)
    made: list[RunResult] = []
    threads = [
        threading.Thread(target=lambda: made.append(run_shard(job, Shard(), expiry=5.0)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.outcome for one in made] == ["sealed"] * 3
    # A worker that begins when another one has ended takes its place, and adds to its count.
    assert sum(int(one.content["parts"]) for one in members(folder_of(job))) == 13
    assert rows(merge(job)).equals(expected)


def test_a_merge_names_the_missing_parts_and_their_shards(job: Path) -> None:
    run_shard(job, Shard(1, 4))
    stopped = merge(job)
    assert (stopped.outcome, stopped.exit_code) == ("stopped", 75)
    assert "10 of 13 parts are missing (0, 2-4, 6-8, 10-12), of shards 0, 2-3 of 4" in (
        stopped.why_stopped
    )
    assert not folder_of(job).manifest.exists()


def test_a_merge_needs_a_run(job: Path) -> None:
    with pytest.raises(UsageError, match="holds nothing of a run"):
        check_begun(folder_of(job), load_job(job).job.output)
    run_shard(job, Shard(0, 4))
    check_begun(folder_of(job), load_job(job).job.output)


def test_a_second_merge_publishes_nothing(job: Path) -> None:
    run_shard(job, Shard(0, 1))
    assert merge(job).outcome == "done"
    published = folder_of(job).manifest.read_bytes()
    assert merge(job).outcome == "already complete"
    assert run_shard(job, Shard(0, 1)).outcome == "already complete"
    assert folder_of(job).manifest.read_bytes() == published


def test_a_run_moves_from_one_machine_to_many_and_back(job: Path) -> None:
    expected = whole(job)
    stopped = run(load_job(job), stop=stop_after(25))
    assert stopped.outcome == "stopped"
    first = saved_answers(folder_of(job).journal, stopped.run_id)
    assert first
    part = run_shard(job, Shard(first[0].index // 10 % 2, 2), stop=stop_after(12))
    assert part.outcome == "stopped"
    assert part.resumed_rows >= len(first), "answers of the single process were lost"
    done = run(load_job(job))
    assert done.outcome == "done"
    assert done.resumed_rows >= stopped.counts.rows + 10, "answers of the shard were lost"
    assert rows(done).equals(expected)
    assert verify(done.folder).issues == []


def test_a_stopped_shard_resumes_its_journal(job: Path) -> None:
    stopped = run_shard(job, Shard(0, 2), stop=stop_after(14))
    assert (stopped.outcome, stopped.exit_code) == ("stopped", 75)
    assert 10 <= stopped.counts.rows < 20
    assert status(folder_of(job).path).counts.rows == stopped.counts.rows
    done = run_shard(job, Shard(0, 2))
    assert (done.outcome, done.resumed_rows) == ("sealed", stopped.counts.rows)


def test_shards_may_change_their_number_between_starts(job: Path) -> None:
    run_shard(job, Shard(0, 2))
    run_shard(job, Shard(2, 3))
    run_shard(job, Shard())
    assert rows(merge(job)).equals(whole(job))


@pytest.fixture
def running(job: Path) -> Iterator[RunFolder]:
    """The folder in which shard 1/4 is running."""
    folder = folder_of(job)
    folder.create()
    with hold_lock(folder.lock, shared=True), join(folder, Shard(1, 4), {"torch": "1"}):
        yield folder


def test_status_shows_running_shards(job: Path, running: RunFolder) -> None:
    with pytest.raises(BatchgenError):
        run_shard(job, Shard(2, 4))  # other versions; the run has begun then
    assert [one.is_alive for one in members(running)] == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1/4", r"shard 1/4 \(process \d+ on .*\) is running in .*out already"),
        ("1/8", r"shard 1/8 cannot run in .*out together with 1/4 \(process"),
        ("any", r"--shard any cannot run in .*out together with 1/4 \(process"),
    ],
)
def test_what_cannot_run_together_is_refused(
    job: Path, running: RunFolder, text: str, message: str
) -> None:
    with pytest.raises(LockedError, match=message) as caught:
        run_shard(job, parse_shard(text))
    assert caught.value.exit_code == 75
    assert not running.run.exists()


def test_one_process_and_shards_exclude_each_other(job: Path, running: RunFolder) -> None:
    with pytest.raises(LockedError, match=r"shards are running in .*out: 1-of-4"):
        run(load_job(job))
    with pytest.raises(LockedError, match="shards are running"):
        merge(job)
    assert not running.run.exists()


def test_a_shard_waits_for_no_single_process(job: Path) -> None:
    folder = folder_of(job)
    folder.create()
    with hold_lock(folder.lock), pytest.raises(LockedError, match="another run has locked"):
        run_shard(job, Shard(0, 2))


def test_another_version_is_refused_by_name(job: Path) -> None:
    folder = folder_of(job)
    folder.create()
    with join(folder, Shard(0, 2), {"torch": "1.0", "batchgen-llm": "0.1"}):
        pass
    with pytest.raises(StateError, match=r"torch \S+ here, 1\.0 there"):
        run_shard(job, Shard(1, 2))
    assert not folder.run.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["decoding.max_new_tokens=7"], "was made by another job: decoding.max_new_tokens"),
        (["input.limit=9"], "was made by another job: input.limit"),
        (["output.prefix=x_"], "other columns of output"),
    ],
)
def test_another_job_is_refused_by_name(job: Path, overrides: list[str], message: str) -> None:
    run_shard(job, Shard(0, 2))
    before = sorted(folder_of(job).parts.iterdir())
    with pytest.raises(StateError, match=message):
        run_shard(load_job(job, overrides=overrides), Shard(1, 2))
    assert sorted(folder_of(job).parts.iterdir()) == before


def test_another_input_is_refused_by_name(job: Path, make_job: MakeJob) -> None:
    run_shard(job, Shard(0, 2))
    make_job([{**ROWS[0], "q": "other"}, *ROWS[1:]], batching={"part_rows": 10})
    with pytest.raises(StateError, match=r"made from other input: .*rows\.jsonl changed"):
        run_shard(job, Shard(1, 2))


def tokens(job: Path) -> int:
    counts = run(load_job(job, overrides=["output.path=whole"])).counts
    return counts.input_tokens + counts.output_tokens


def limited(job: Path, limit: int) -> LoadedJob:
    return load_job(job, overrides=[f"run.max_total_tokens={limit}"])


@pytest.mark.parametrize("shards", [["0/2", "1/2"], ["any", "any"]])
def test_shards_share_a_budget_of_tokens(job: Path, shards: list[str]) -> None:
    """Together they never exceed it; what their shares leave is used by a run without shards."""
    expected, limit = whole(job), tokens(job)
    for shard in shards:
        made = run_shard(limited(job, limit), parse_shard(shard))
        assert (made.outcome, made.exit_code) == ("stopped", 75)
        assert re.search(
            r"this shard's share of run.max_total_tokens \([\d,]+ of", made.why_stopped
        )
    stopped = run(limited(job, limit), stop=lambda: True)
    spent = stopped.counts.input_tokens + stopped.counts.output_tokens
    assert 0 < spent <= limit
    done = run(limited(job, 4 * limit))
    assert done.outcome == "done"
    assert rows(done).equals(expected)


@pytest.mark.parametrize("shard", ["0/1", "any"])
def test_a_budget_that_suffices_stops_no_shard(job: Path, shard: str) -> None:
    assert run_shard(limited(job, 1_000_000), parse_shard(shard)).outcome == "sealed"
    assert merge(limited(job, 1_000_000)).outcome == "done"


def test_the_input_is_surveyed_once(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surveyed: list[InputSource] = []
    survey = InputSource.survey

    def counted(source: InputSource, columns: Sequence[str] = ()) -> Survey:
        surveyed.append(source)
        return survey(source, columns)

    expected = whole(job)
    monkeypatch.setattr(InputSource, "survey", counted)
    folder = folder_of(job)
    for index in range(3):
        run_shard(job, Shard(index, 3))
    assert len(surveyed) == 1
    survey_path(folder).write_text("damaged")
    assert rows(merge(job)).equals(expected)
    assert len(surveyed) == 2


def test_too_many_failures_stop_a_shard(make_job: MakeJob) -> None:
    bad: list[dict[str, Any]] = [{"q": None}] * 200
    job = make_job(bad, batching={"part_rows": 50})
    made = run_shard(job, Shard(0, 2))
    assert (made.outcome, made.exit_code) == ("stopped", 3)
