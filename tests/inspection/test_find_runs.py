"""`batchgen runs` lists every run below a folder, whatever its state."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.jobfile.load import load_job
from batchgen.run.run import run

MakeJob = Callable[..., Path]


def test_states_of_runs(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(name: str, *, stop: bool = False) -> Path:
        rows = [{"q": "one"}, {"q": "two"}, {"q": "three"}]
        job = load_job(make_job(rows, output={"path": f"runs/{name}"}))
        return run(job, stop=lambda: stop).folder.path

    make("deep/er/done")
    # The process that took the lock, this one, is alive.
    (make("stopped", stop=True) / ".batchgen" / "lock").write_text("")
    (make("broken") / "manifest.json").write_text("{")
    (tmp_path / "runs" / "other").mkdir()
    assert call(["runs", str(tmp_path / "runs"), "--json"]) == 0
    found = {
        Path(one["output"]).name: one["state"]
        for one in json.loads(capsys.readouterr().out)["runs"]
    }
    assert found == {"done": "complete", "stopped": "incomplete", "broken": "unreadable"}
    assert call(["runs", str(tmp_path / "runs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["state", "started", "answers", "failed", "folder"]
    assert any(line.startswith("complete") and line.endswith("deep/er/done") for line in lines)
    assert any("manifest.json is damaged" in line for line in lines)


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().err == f"no runs below {tmp_path}\n"
    assert call(["runs", str(tmp_path / "nope")]) == 2
