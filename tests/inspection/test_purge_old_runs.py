"""`purge --older-than`: which runs below a folder lose their private state."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.run.run import run

MakeJob = Callable[..., Path]
DAY = 86_400


def age(folder: Path, days: float) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - days * DAY,) * 2)


@pytest.fixture
def runs(make_job: MakeJob, tmp_path: Path) -> Path:
    """A complete run, an unfinished one, and a young one, with private files in each."""
    job = make_job([{"q": f"q {n}"} for n in range(8)], batching={"part_rows": 2})
    top = tmp_path / "runs"
    for name in ("complete", "young"):
        assert call(["run", str(job), "--output", str(top / name), "--quiet"]) == 0
        (top / name / ".batchgen" / "logs").mkdir()
        (top / name / ".batchgen" / "logs" / "worker.log").write_text("x" * 1000)
    assert call(["run", str(job), "--output", str(top / "open"), "--shard", "0/2", "-q"]) == 0
    for name, days in {"complete": 40, "open": 40, "young": 5}.items():
        age(top / name, days)
    return top


def purged(top: Path, *options: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    assert call(["purge", str(top), "--older-than", "30d", "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    return {Path(one["output"]).name: one.get("kept", "purged") for one in found}


def test_old_runs_are_purged_and_unfinished_ones_only_on_request(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = purged(runs, capsys=capsys)
    assert done["complete"] == "purged"
    assert "saved answers would be lost" in done["open"]
    assert "young" not in done
    assert not (runs / "complete" / ".batchgen" / "logs").exists()
    assert call(["verify", str(runs / "complete")]) == 0
    assert (runs / "young" / ".batchgen" / "logs").exists()
    age(runs / "open", 40)
    assert purged(runs, "--yes", capsys=capsys)["open"] == "purged"
    assert purged(runs, capsys=capsys) == {}


def test_a_run_that_is_in_use_is_kept(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from batchgen.state.lock import hold_lock
    from batchgen.state.run_folder import RunFolder

    folder = RunFolder(runs / "complete")
    with hold_lock(folder.lock):
        age(folder.path, 40)
        assert "lock" in purged(runs, capsys=capsys)["complete"]


@pytest.mark.parametrize("text", ["30", "x", "1.5d", ""])
def test_a_time_that_is_none(runs: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["purge", str(runs), "--older-than", text]) == 2
    assert "expected a time" in capsys.readouterr().err


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    assert call(["purge", str(tmp_path / "absent"), "--older-than", "1d"]) == 2


def test_the_rows_of_a_purged_run_stay(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (runs / "complete" / "responses.parquet").read_bytes()
    purged(runs, capsys=capsys)
    assert (runs / "complete" / "responses.parquet").read_bytes() == before
    shutil.rmtree(runs / "open")
    assert run(runs.parent / "job.yaml").outcome == "done"
