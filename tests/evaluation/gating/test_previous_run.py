"""What `previous` means: with `${date}` in output.path, the run of an earlier day."""

import datetime as dt
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.evaluation.gating.previous_run import run_of_earlier_day
from batchgen.evaluation.scoring.score import score
from batchgen.jobfile.load import load_job
from batchgen.output.published_run import read_manifest
from batchgen.run.result import RunResult
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder

MakeJob = Callable[..., Path]
RunDay = Callable[..., RunResult]
DROP = {"metric": "exact", "max_drop": 0.1, "baseline": "previous"}
DRIFT = {"drift": "length", "max_p": 0.01, "baseline": "previous"}


@pytest.fixture
def run_day(make_job: MakeJob) -> RunDay:
    """Run 40 rows, of which `right` are right, on a day of November 2026."""

    def ran(day: int, right: int = 40, *, path: str = "out/${date}", **sections: Any) -> RunResult:
        rows = [
            {"id": f"r{n}", "q": f"q{n}", "gold": f"q{n}" if n < right else "x"} for n in range(40)
        ]
        evaluate = {"reference": "gold", "metrics": ["exact"], "gates": [DROP, DRIFT]}
        file = make_job(rows, **{"evaluate": evaluate, "output": {"path": path}, **sections})
        return run(load_job(file, date=dt.date(2026, 11, day)))

    return ran


def set_start(folder: RunFolder, started_at: str) -> None:
    """Set the start of a run, which has a resolution of seconds."""
    content = dict(read_manifest(folder).content)
    folder.write_json(folder.manifest, content | {"started_at": started_at}, stage="manifest")


@pytest.mark.parametrize("path", ["out/${date}", "${date:%Y/%m/%d}/replies"])
def test_a_night_is_compared_with_the_night_before(run_day: RunDay, path: str) -> None:
    first = run_day(1, path=path)
    assert {one.found for one in first.gates} == {"no previous output to compare with"}
    set_start(first.folder, "2026-11-01T01:00:00+00:00")
    second = run_day(2, right=10, path=path)
    assert [one.verdict for one in second.gates] == ["failed", "passed"]
    assert "n 40" in second.gates[0].found
    noted = json.loads(second.folder.manifest.read_text())["evaluation"]["previous"]
    assert (second.folder.path / noted["folder"]).resolve() == first.folder.path
    assert noted["run_id"] == first.run_id


def test_it_is_the_newest_complete_run_of_the_job(run_day: RunDay, make_job: MakeJob) -> None:
    """Neither a newer one, nor a trial, nor that of another job, nor a folder without a manifest."""
    made = {day: run_day(day).folder for day in (1, 2, 3, 4)}
    made[5] = run_day(5, name="another").folder
    made[6] = run_day(6, input={"limit": 3}).folder
    for day, folder in made.items():
        set_start(folder, f"2026-11-{day:02}T01:00:00+00:00")
    made[3].manifest.unlink()
    loaded = load_job(make_job(output={"path": "out/${date}"}), date=dt.date(2026, 11, 9))
    assert run_of_earlier_day(loaded, "2026-11-04T01:00:00+00:00") == made[2].path
    assert run_of_earlier_day(loaded, "2026-11-08T01:00:00+00:00") == made[4].path
    assert run_of_earlier_day(loaded, "2026-11-01T01:00:00+00:00") is None


def test_a_damaged_run_makes_gates_undecided(run_day: RunDay) -> None:
    first = run_day(1)
    first.folder.manifest.write_text("{}")
    yesterday = time.time() - 86400
    os.utime(first.folder.manifest, (yesterday, yesterday))
    second = run_day(2)
    assert [one.verdict for one in second.gates] == ["undecided", "undecided"]
    assert "manifest.json is damaged" in second.gates[0].found


def test_scores_are_made_again_against_the_same_run(run_day: RunDay) -> None:
    """`score` knows the run of the earlier day by the manifest; where it is gone, gates on drift have none."""
    first = run_day(1)
    set_start(first.folder, "2026-11-01T01:00:00+00:00")
    second = run_day(2, right=10)
    again = score(second.folder.path)
    assert [one.plain() for one in again.gates] == [one.plain() for one in second.gates]
    assert run_day(2, right=10).gates == second.gates
    shutil.rmtree(first.folder.path)
    alone = score(second.folder.path)
    assert alone.gates[1].found == "no previous output to compare with"
