"""Folders without a report: unfinished, damaged or without scores."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.errors import StateError, UsageError
from batchgen.evaluation.comparing.compare import compare
from batchgen.jobfile.load import load_job
from batchgen.report.reported_run import open_reported_run
from batchgen.run.run import run

MakeJob = Callable[..., Path]
MakeRun = Callable[..., Path]


def test_a_run_without_scores(make_job: MakeJob, tmp_path: Path) -> None:
    run(load_job(make_job()))
    with pytest.raises(UsageError, match="has no scores") as raised:
        open_reported_run(tmp_path / "out")
    command = raised.value.hint.partition("batchgen ")[2].rstrip(".")
    assert call(shlex.split(command)) == 0
    assert {row.metric for row in open_reported_run(tmp_path / "out").rows} == {"length_characters"}


def test_a_folder_that_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the output folder of a run"):
        open_reported_run(tmp_path)


def test_an_unfinished_run(make_job: MakeJob, tmp_path: Path) -> None:
    rows = [{"q": str(n)} for n in range(9)]
    job = make_job(rows, evaluate={"metrics": ["length"]}, batching={"part_rows": 2})
    looks = iter(range(3))
    assert run(load_job(job), stop=lambda: next(looks, None) is None).outcome == "stopped"
    with pytest.raises(UsageError, match="is not complete yet") as raised:
        open_reported_run(tmp_path / "out")
    assert "batchgen run" in raised.value.hint


def test_a_run_without_its_manifest(scored: MakeRun) -> None:
    folder = scored()
    (folder / "manifest.json").unlink()
    with pytest.raises(StateError, match=r"manifest\.json is missing"):
        open_reported_run(folder)
    with pytest.raises(StateError, match=r"manifest\.json is missing"):
        compare(scored("base"), folder)


@pytest.mark.parametrize("name", ["scores.parquet", "metrics.parquet", "responses.parquet"])
def test_a_damaged_file(scored: MakeRun, name: str) -> None:
    folder = scored()
    path = folder / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StateError, match=name) as raised:
        open_reported_run(folder)
    command = "batchgen run --fresh" if name == "responses.parquet" else "batchgen score"
    assert command in raised.value.hint
