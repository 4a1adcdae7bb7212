"""A project that was moved, remounted or reached through a link is the same: content and paths within the input decide."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.__main__ import call
from batchgen.errors import StateError
from batchgen.jobfile.load import load_job
from batchgen.run.plan import plan
from batchgen.run.run import run

Files = Mapping[str, str]
JOB: dict[str, Any] = {
    "version": 1,
    "name": "moved",
    "input": {"path": "data/in.jsonl"},
    "prompt": {"user": "{{ q }}"},
    "model": {"engine": "echo"},
    "output": {"path": "out"},
    "batching": {"part_rows": 2},
}


def lines(*questions: str | None) -> str:
    return "".join(json.dumps({"q": question}) + "\n" for question in questions)


ROWS = lines("a", "b", None, "c", "d")
SCHEMA = {"type": "json_schema", "schema": "files/answer.json"}
PYTHON = {"type": "python", "file": "files/own.py", "function": "score"}
PROJECTS: dict[str, tuple[dict[str, Any], Files]] = {
    "one file": ({}, {"data/in.jsonl": ROWS}),
    "a folder": ({"input": {"path": "data"}}, {"data/a.jsonl": ROWS, "data/b/c.jsonl": lines("e")}),
    "hive folders": (
        {"input": {"path": "data"}, "prompt": {"user": "{{ lang }}: {{ q }}"}},
        {"data/lang=zh/part.jsonl": ROWS, "data/lang=en/part.jsonl": lines("e")}),
    "files of one name": (
        {"input": {"path": ["x/part.jsonl", "y/part.jsonl"]}}, {"x/part.jsonl": ROWS, "y/part.jsonl": lines("e")}),
    "a glob": ({"input": {"path": "*/data/*.jsonl"}}, {"x/data/a.jsonl": ROWS, "y/data/a.jsonl": lines("e")}),
    "a prompt file": (
        {"prompt": {"file": "files/prompt.txt"}}, {"data/in.jsonl": ROWS, "files/prompt.txt": "Say {{ q }}"}),
    "files of metrics": (
        {"evaluate": {"metrics": [SCHEMA, PYTHON]}},
        {
            "data/in.jsonl": ROWS,
            "files/answer.json": '{"type": "string"}',
            "files/own.py": "def score(row):\n    return 1.0\n",
        }),
}  # fmt: skip


def write(folder: Path, changes: Mapping[str, Any], files: Files) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    job = folder / "job.yaml"
    job.write_text(json.dumps({**JOB, **changes}), "utf-8")
    return job


def move(folder: Path) -> Path:
    return folder.rename(folder.with_name("b"))


def remount(folder: Path) -> Path:
    """The same files below another folder; a link stands for a mount."""
    move(folder)
    folder.with_name("mnt").symlink_to(folder.with_name("b"))
    return folder.with_name("mnt")


@pytest.mark.slow
@pytest.mark.parametrize(
    "elsewhere",
    [
        pytest.param(move, id="moved"),
        pytest.param(remount, id="remounted", marks=pytest.mark.soak),
    ],
)
@pytest.mark.parametrize(("changes", "files"), PROJECTS.values(), ids=PROJECTS.keys())
def test_a_moved_run_is_complete_and_a_half_done_one_resumes(
    changes: dict[str, Any],
    files: Files,
    elsewhere: Callable[[Path], Path],
    tmp_path: Path,
) -> None:
    whole = write(tmp_path / "whole" / "a", changes, files)
    expected = run(load_job(whole))
    half = write(tmp_path / "half" / "a", changes, files)
    calls = iter(range(1))
    assert run(load_job(half), stop=lambda: next(calls, None) is None).outcome == "stopped"

    job = elsewhere(whole.parent) / "job.yaml"
    fingerprint = expected.folder.manifest.name
    scored = (job.parent / "out" / fingerprint).read_text("utf-8")
    assert plan(load_job(job)).output.refusal == ""
    assert run(load_job(job)).outcome == "already complete"
    assert (job.parent / "out" / fingerprint).read_text("utf-8") == scored, "not scored again"
    assert run(load_job(job), start="retry-errors").counts.failed == 1
    for command in (["verify"], ["status"], ["score", "--metric", "length"]):
        assert call([command[0], str(job.parent / "out"), *command[1:]]) == 0

    resumed = run(load_job(elsewhere(half.parent) / "job.yaml"))
    assert resumed.outcome == "done"
    assert 0 < resumed.resumed_rows < resumed.counts.rows
    own = ("run_id", "created_at")
    assert (
        resumed.frame()
        .drop(own)
        .equals(run(load_job(write(tmp_path / "again", changes, files))).frame().drop(own))
    )


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "content": (lambda data: (data / "lang=zh" / "part.jsonl").write_text(lines("x"), "utf-8"), "part.jsonl changed"),
    "another column from the name of a folder": (
        lambda data: (data / "lang=zh").rename(data / "lang=fr"), "lang=fr/part.jsonl is new"),
    "a file more": (lambda data: (data / "lang=zh" / "new.jsonl").write_text(lines("x"), "utf-8"), "new.jsonl is new"),
    "a file less": (lambda data: (data / "lang=zh" / "part.jsonl").unlink(), "lang=zh/part.jsonl is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_another_input_is_rejected(
    change: Callable[[Path], object], expected: str, tmp_path: Path
) -> None:
    changes, files = PROJECTS["hive folders"]
    job = write(tmp_path / "a", changes, files)
    first = run(load_job(job))
    job = move(job.parent) / "job.yaml"
    change(job.parent / "data")
    with pytest.raises(StateError, match=expected) as caught:
        run(load_job(job))
    # The way out works in the same folder.
    out = job.parent / "out"
    assert f"--fresh --incremental-from {out}" in caught.value.hint
    mended = run(load_job(job), start="fresh", incremental_from=out)
    assert mended.incremental is not None
    assert mended.incremental.run_id == first.run_id


def test_the_order_of_files_decides(tmp_path: Path) -> None:
    changes, files = PROJECTS["files of one name"]
    run(load_job(write(tmp_path, changes, files)))
    for path in (["y/part.jsonl", "x/part.jsonl"], ["y/part.jsonl", "data/in.jsonl"]):
        turned = write(tmp_path, {"input": {"path": path}}, {**files, "data/in.jsonl": ROWS})
        with pytest.raises(StateError, match="made from other input"):
            run(load_job(turned))


def test_a_relative_path_is_the_same_as_an_absolute_one(tmp_path: Path) -> None:
    job = write(tmp_path / "a", *PROJECTS["one file"])
    run(load_job(job))
    for path in (tmp_path / "a/data/in.jsonl", "../a/data/in.jsonl", "data", "data/*.jsonl"):
        changed = write(tmp_path / "a", {"input": {"path": str(path)}}, {})
        assert run(load_job(changed)).outcome == "already complete"


def test_an_incremental_run_resumes_beside_its_moved_earlier_run(tmp_path: Path) -> None:
    job = write(tmp_path / "a", *PROJECTS["one file"])
    first = run(load_job(job))
    (tmp_path / "a" / "data" / "more.jsonl").write_text(lines("e", "f", "g"), "utf-8")
    second = ["output.path=second", "input.path=[data/in.jsonl, data/more.jsonl]"]
    stopped = run(
        load_job(job, overrides=second), incremental_from=first.folder.path, stop=lambda: True
    )
    assert stopped.outcome == "stopped"
    resumed = run(load_job(move(job.parent) / "job.yaml", overrides=second))
    assert resumed.incremental is not None
    assert resumed.incremental.reused == 4


def test_a_moved_table_of_parquet_files_is_the_same(tmp_path: Path) -> None:
    job = write(tmp_path / "a", {"input": {"path": "data"}}, {})
    for name in ("x", "y"):
        (tmp_path / "a" / "data" / name).mkdir(parents=True)
        pq.write_table(pa.table({"q": [name]}), tmp_path / "a" / "data" / name / "part.parquet")
    run(load_job(job))
    job = move(job.parent) / "job.yaml"
    os.utime(job.parent / "data" / "x" / "part.parquet")
    assert run(load_job(job)).outcome == "already complete"
