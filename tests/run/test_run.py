"""A run from job file to Parquet: order, failures, stopping anywhere and resuming, and rejected changes."""

import importlib.metadata
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

import batchgen
from batchgen.errors import BatchgenError, ExitCode, LockedError, StateError
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.lock import hold_lock
from batchgen.state.run_folder import RunFolder
from tests.reporters import RecordingReporter
from tests.run.wrapped_engines import After, meddling

MakeJob = Callable[..., Path]
OF_THE_RUN = ("run_id", "created_at")
"""The columns that may differ between a resumed and an uninterrupted run."""


def rows(count: int) -> list[dict[str, Any]]:
    """Questions of different lengths, so that the original order must be restored after sorting."""
    return [{"q": "问" * (1 + 7 * i % 23), "n": i} for i in range(count)]


def test_answers_are_in_input_order_with_their_rows(make_job: MakeJob) -> None:
    frame = run(load_job(make_job(rows(50), batching={"part_rows": 8}))).frame()
    assert frame["n"].to_list() == list(range(50))
    assert frame["id"].to_list() == [str(n) for n in range(50)]
    assert frame["finish_reason"].unique().to_list() == ["stop"]
    prompts = frame["messages"].list.first().struct.field("content")
    assert prompts.equals(frame["q"], check_names=False)
    assert all(q in answer for q, answer in zip(frame["q"], frame["response"], strict=True))


def test_the_manifest_lists_every_row_and_file(make_job: MakeJob) -> None:
    result = run(load_job(make_job(rows(20))))
    manifest = json.loads(result.folder.manifest.read_text())
    assert manifest["counts"]["rows"] == manifest["rows"] == 20
    (file,) = manifest["files"]
    assert file["name"] == "responses.parquet"
    assert file["bytes"] == result.folder.responses.stat().st_size
    origin = json.loads(pq.read_metadata(result.folder.responses).metadata[b"batchgen"])
    assert origin["fingerprint"] == manifest["fingerprint"]
    assert manifest["settings"]["decoding"]["max_new_tokens"] == 256
    assert list(result.folder.parts.iterdir()) == []


def test_the_version_of_a_package_without_metadata_is_null(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.metadata.distribution
    broken = False

    def distribution(name: str) -> importlib.metadata.Distribution:
        if broken:
            raise OSError("unreadable metadata")
        if name == "batchgen-llm":
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    result = run(load_job(make_job(rows(2))))
    versions = json.loads(result.folder.manifest.read_text())["versions"]
    assert versions["batchgen-llm"] is None
    assert versions["pyarrow"] == importlib.metadata.version("pyarrow")
    # Other errors of the metadata are reported before a row is generated.
    broken = True
    loaded = load_job(make_job(rows(2), output={"path": "second"}))
    with pytest.raises(OSError, match="unreadable metadata"):
        run(loaded)
    assert not RunFolder(Path(loaded.job.output.path)).run.exists()


def test_a_second_start_of_a_complete_run_generates_nothing(make_job: MakeJob) -> None:
    loaded = load_job(make_job(rows(5)))
    first = run(loaded)
    before = first.folder.responses.stat().st_mtime_ns
    second = run(loaded)
    assert second.outcome == "already complete"
    assert second.exit_code == ExitCode.DONE
    assert second.folder.responses.stat().st_mtime_ns == before


@pytest.mark.parametrize("looks", [0, 1, 9, 25, 48])
def test_a_resumed_run_ends_like_an_uninterrupted_one(make_job: MakeJob, looks: int) -> None:
    loaded = load_job(make_job(rows(50), batching={"part_rows": 8}))
    stopped = run(loaded, stop=After(looks))
    assert stopped.outcome == "stopped"
    assert stopped.exit_code == ExitCode.RUN_AGAIN
    assert not stopped.folder.responses.exists()
    resumed = run(loaded)
    assert resumed.outcome == "done"
    assert resumed.resumed_rows == stopped.counts.rows == looks + 1
    uninterrupted = run(load_job(loaded.file, overrides=("output.path=other",)))
    assert resumed.frame().drop(OF_THE_RUN).equals(uninterrupted.frame().drop(OF_THE_RUN))


@pytest.mark.parametrize(
    ("sets", "names"),
    [
        pytest.param(
            ["decoding.max_new_tokens=7"], "decoding.max_new_tokens was 256, is 7", id="decoding"
        ),
        pytest.param(["prompt.user='{{ q }}!'"], "prompt.user was ", id="prompt"),
        pytest.param(["run.seed=1"], "run.seed was 0, is 1", id="seed"),
        pytest.param(["input.limit=3"], "input.limit was ", id="selection"),
    ],
)
@pytest.mark.parametrize("looks", [3, 1000], ids=["stopped", "complete"])
def test_another_job_is_rejected_and_the_differences_are_named(
    make_job: MakeJob, sets: Sequence[str], names: str, looks: int
) -> None:
    path = make_job(rows(10), batching={"part_rows": 2})
    run(load_job(path), stop=After(looks))
    with pytest.raises(StateError, match="made by another job") as caught:
        run(load_job(path, overrides=sets))
    assert names in caught.value.message
    assert "--fresh" in caught.value.hint


@pytest.mark.parametrize(
    "sets",
    [["batching.part_rows=3"], ["batching.max_rows=1"], ["run.max_error_rate=0.5"]],
    ids=["part_rows", "max_rows", "max_error_rate"],
)
def test_keys_that_change_no_answer_may_change(make_job: MakeJob, sets: Sequence[str]) -> None:
    path = make_job(rows(10), batching={"part_rows": 2})
    run(load_job(path), stop=After(4))
    assert run(load_job(path, overrides=sets)).counts.rows == 10


def test_changed_input_is_rejected_by_name(make_job: MakeJob) -> None:
    path = make_job(rows(10), batching={"part_rows": 2})
    run(load_job(path), stop=After(4))
    (path.parent / "rows.jsonl").write_text('{"q": "new", "n": 0}\n')
    with pytest.raises(StateError, match=r"made from other input: .*rows\.jsonl changed"):
        run(load_job(path))


def test_fresh_restarts_and_keeps_the_old_run(make_job: MakeJob) -> None:
    path = make_job(rows(3))
    old = run(load_job(path)).frame()
    messages: list[str] = []
    new = run(
        load_job(path, overrides=["run.seed=5"]),
        start="fresh",
        reporter=RecordingReporter(messages),
    )
    assert new.outcome == "done"
    aside = path.parent / "out.old-1"
    assert pl.read_parquet(aside / "responses.parquet").equals(old)
    assert any(str(aside) in line for line in messages)


MIXED: Sequence[Mapping[str, Any]] = [
    {"q": "fine"},
    {"q": ""},
    {"q": None},
    {"q": "also fine"},
    {"q": "x" * 400},
]


def test_failed_rows_stay_in_the_output_with_the_reason(make_job: MakeJob) -> None:
    result = run(
        load_job(make_job(MIXED, prompt={"max_input_tokens": 100}, run={"max_error_rate": 1}))
    )
    frame = result.frame()
    assert frame["finish_reason"].to_list() == ["stop", "error", "error", "stop", "error"]
    assert frame["error_code"].to_list() == [
        None,
        "prompt_empty",
        "prompt_null",
        None,
        "prompt_too_long",
    ]
    assert frame["response"].is_null().to_list() == [False, True, True, False, True]
    assert "100" in frame["error"][4]
    assert result.exit_code == ExitCode.DONE
    assert result.counts.failed == 3


def test_too_many_failed_rows_exit_with_3_and_are_published(make_job: MakeJob) -> None:
    result = run(load_job(make_job(MIXED, run={"max_error_rate": 0.2})))
    assert result.counts.failed == 2
    assert result.exit_code == ExitCode.TOO_MANY_FAILED_ROWS
    assert result.frame().height == 5


def test_skipped_rows_are_not_failures(make_job: MakeJob) -> None:
    sets = ("input.on_empty_prompt=skip", "prompt.on_overflow=skip", "prompt.max_input_tokens=100")
    result = run(
        load_job(
            make_job([MIXED[0], MIXED[1], MIXED[4]], run={"max_error_rate": 0}), overrides=sets
        )
    )
    assert result.frame()["finish_reason"].to_list() == ["stop", "skipped", "skipped"]
    assert result.exit_code == ExitCode.DONE


def test_a_part_with_only_failures_is_sealed(make_job: MakeJob) -> None:
    job = make_job([{"q": ""}] * 6, batching={"part_rows": 2}, run={"max_error_rate": 1})
    assert run(load_job(job)).frame()["error_code"].to_list() == ["prompt_empty"] * 6


@pytest.mark.parametrize(
    ("rate", "count", "rows", "allowed"),
    [
        (0, None, 100, 0),
        (0.01, None, 100, 1),
        (0.01, None, 99, 0),
        (0.5, None, 3, 1),
        (0.29, None, 100, 29),
        (1, None, 3, 3),
        (0.01, 20, 100, 1),
        (0.5, 20, 100, 20),
        (1, 0, 100, 0),
    ],
)
def test_both_limits_of_failures_are_enforced(
    make_job: MakeJob, rate: float, count: int | None, rows: int, allowed: int
) -> None:
    limits = {"max_error_rate": rate, "max_error_count": count}
    result = run(load_job(make_job(MIXED[:1], run=limits)))
    for failed, exceeded in ((allowed, False), (allowed + 1, True)):
        counts = replace(result.counts, rows=rows, failed=failed)
        ended = replace(result, counts=counts)
        assert (ended.max_failed, ended.too_many_failed) == (allowed, exceeded)


def test_the_message_names_the_limit_that_is_exceeded(make_job: MakeJob) -> None:
    limits = {"max_error_rate": 1, "max_error_count": 1}
    result = run(load_job(make_job(MIXED, run=limits)))
    assert result.exit_code == ExitCode.TOO_MANY_FAILED_ROWS
    assert result.not_passed == ["failed rows: 2, allowed: 1 (run.max_error_count: 1)"]


def test_each_sample_is_a_row(make_job: MakeJob) -> None:
    decoding = {"num_return_sequences": 3, "temperature": 1.0}
    frame = run(load_job(make_job(rows(4), decoding=decoding))).frame()
    assert frame["n"].to_list() == [n for n in range(4) for _ in range(3)]
    assert frame["sample"].to_list() == [0, 1, 2] * 4
    assert frame["seed"].n_unique() == 12
    assert frame["seed"].min() >= 0  # type: ignore[operator]  # a number: the column is int64


def test_finish_reasons_distinguish_stop_strings_and_limits(make_job: MakeJob) -> None:
    job = make_job([{"q": "one STOP two"}, {"q": "one two"}], decoding={"stop_strings": ["STOP"]})
    frame = run(load_job(job)).frame()
    assert frame["finish_reason"].to_list() == ["stop_string", "stop"]
    assert frame["response"][0].endswith("one ")
    short = run(load_job(job, overrides=["decoding.max_new_tokens=3", "output.path=short"])).frame()
    assert short["finish_reason"].to_list() == ["length", "length"]
    assert short["output_tokens"].to_list() == [3, 3]


def test_storing_prompts_is_optional(make_job: MakeJob) -> None:
    output = {"store_prompt": False, "keep_columns": "none"}
    result = run(
        load_job(make_job([{"q": "canary"}], output=output, decoding={"max_new_tokens": 2}))
    )
    assert result.frame()["messages"].to_list() == [None]
    assert b"canary" not in result.folder.responses.read_bytes()


def test_a_prefix_avoids_name_conflicts(make_job: MakeJob) -> None:
    frame = run(
        load_job(make_job([{"q": "a", "response": "mine"}], output={"prefix": "bg_"}))
    ).frame()
    assert frame["response"].to_list() == ["mine"]
    assert frame["bg_response"].null_count() == 0


def test_a_column_that_appears_late_is_kept(make_job: MakeJob) -> None:
    late = [*({"q": "x" * 500} for _ in range(2000)), {"q": "last", "note": "late"}]
    frame = run(load_job(make_job(late))).frame()
    assert frame["note"].to_list()[-2:] == [None, "late"]
    clash = [*late, {"q": "x", "response": "mine"}]
    with pytest.raises(BatchgenError, match="input columns response have names of answer columns"):
        run(load_job(make_job(clash, output={"path": "other"})))


def test_a_second_concurrent_run_is_rejected(make_job: MakeJob) -> None:
    loaded = load_job(make_job(rows(3)))
    folder = RunFolder(Path(loaded.job.output.path))
    folder.create()
    with hold_lock(folder.lock), pytest.raises(LockedError):
        run(loaded)
    assert run(loaded).outcome == "done"


def test_answers_without_state_are_not_modified(make_job: MakeJob) -> None:
    loaded = load_job(make_job(rows(3)))
    folder = RunFolder(Path(loaded.job.output.path))
    folder.create()
    folder.responses.write_text("somebody's")
    with pytest.raises(BatchgenError, match="contains answers, but not the state"):
        run(loaded)
    assert folder.responses.read_text() == "somebody's"


def test_the_job_yaml_of_a_run_folder_can_be_run(make_job: MakeJob, tmp_path: Path) -> None:
    first = run(load_job(make_job(rows(4), decoding={"max_new_tokens": 5})))
    again = run(load_job(first.folder.job, overrides=[f"output.path={tmp_path / 'again'}"]))
    assert again.frame().drop(OF_THE_RUN).equals(first.frame().drop(OF_THE_RUN))
    assert first.folder.job.stat().st_mode & 0o777 == 0o600


def test_a_link_named_like_the_answers_is_replaced_not_followed(
    make_job: MakeJob, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    loaded = load_job(make_job(rows(30), batching={"part_rows": 8}))
    stopped = run(loaded, stop=After(20))
    stopped.folder.responses.symlink_to(victim)
    assert run(loaded).outcome == "done"
    assert victim.read_text() == "untouched"
    assert not stopped.folder.responses.is_symlink()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_other_users_cannot_read_anything_whatever_the_umask(mask: int, make_job: MakeJob) -> None:
    before = os.umask(mask)
    try:
        stopped = run(load_job(make_job(rows(30), batching={"part_rows": 8})), stop=After(20))
        assert stopped.folder.private.stat().st_mode & 0o777 == 0o700
        job = make_job(rows(30), batching={"part_rows": 8}, output={"path": "watched"})
        during = RunFolder(job.parent / "watched").private
        modes: dict[str, int] = {}

        def look() -> None:
            files = [path for path in during.rglob("*") if path.is_file()]
            modes.update({path.name: path.stat().st_mode & 0o777 for path in files})

        done = run(load_job(job), opener=meddling(20, look))
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(modes, 0o600)
    journal = {"journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm", "journal.running"}
    assert {"lock", "run.json", "00000.bgpart", "00000.json", *journal} <= modes.keys()
    for path in (done.folder.responses, done.folder.manifest, done.folder.job):
        assert path.stat().st_mode & 0o777 == 0o600
    assert done.folder.private.stat().st_mode & 0o777 == 0o700


def test_a_job_may_be_given_as_the_path_of_its_file(
    make_job: MakeJob, capfd: pytest.CaptureFixture[str]
) -> None:
    job = make_job([{"q": "a"}, {"q": "b"}])
    result = batchgen.run(str(job))
    assert str(result).startswith("done   2 rows in ")
    assert f"wrote  {job.parent / 'out'}" in str(result)
    assert capfd.readouterr() == ("", "")
    assert "already complete: 2 rows" in str(batchgen.run(job, progress=True))
    assert batchgen.run(batchgen.load_job(job), start="fresh", progress=True).outcome == "done"
    assert "the old run stays published until" in capfd.readouterr().err
    assert batchgen.plan(str(job)).output.state == "complete"
