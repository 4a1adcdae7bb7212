"""Folders without a report: unfinished, damaged or without scores."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import BatchgenError, ExitCode, StateError, UsageError
from batchgen.jobfile.load import load_job
from batchgen.report.reported_run import open_reported_run
from batchgen.run.run import run

MakeJob = Callable[..., Path]
MakeRun = Callable[..., Path]


def test_a_run_without_scores(make_job: MakeJob, tmp_path: Path) -> None:
    run(load_job(make_job()))
    with pytest.raises(UsageError, match="has no scores") as raised:
        open_reported_run(tmp_path / "out")
    assert "batchgen score" in raised.value.hint


def test_a_folder_that_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the output folder of a run"):
        open_reported_run(tmp_path)


def test_an_unfinished_run(make_job: MakeJob, tmp_path: Path) -> None:
    run(load_job(make_job(evaluate={"metrics": ["length"]})))
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(BatchgenError) as raised:
        open_reported_run(tmp_path / "out")
    assert raised.value.exit_code in (ExitCode.USAGE, ExitCode.STATE)


@pytest.mark.parametrize("name", ["scores.parquet", "metrics.parquet", "responses.parquet"])
def test_a_damaged_file(scored: MakeRun, name: str) -> None:
    folder = scored()
    path = folder / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StateError, match=name):
        open_reported_run(folder)
