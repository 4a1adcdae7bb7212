"""The estimate of a run's time: none on a new machine, then from earlier runs, or from rows that are generated now."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import batchgen
from batchgen.__main__ import call
from batchgen.engines.contract import EngineEntry
from batchgen.engines.echo import ECHO, EchoEngine
from batchgen.engines.engine_registry import ENGINES
from batchgen.job.spec import ModelSpec
from batchgen.records import AnswerDecoder, Completion, Request

MakeJob = Callable[..., Path]
ROWS = [{"q": "word " * (1 + i % 7)} for i in range(60)]


@pytest.fixture(autouse=True)
def new_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache without earlier runs, and an engine that takes a hundredth of a second for each answer."""
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))
    info = replace(ECHO.info, name="paced", needs="optional tokenizer")
    monkeypatch.setitem(ENGINES, "paced", EngineEntry(info, open_paced))


class PacedEngine(EchoEngine):
    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for completion in super().generate(requests):
            time.sleep(0.01)
            yield completion


def open_paced(model: ModelSpec, *, decode: AnswerDecoder, **_options: object) -> PacedEngine:
    del model
    return PacedEngine(decode)


@pytest.fixture
def job(make_job: MakeJob) -> Path:
    return make_job(ROWS, decoding={"max_new_tokens": 20}, model={"engine": "paced"})


def planned(job: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert call(["plan", str(job), "--json", *options]) == 0
    estimate: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])["time"]
    return estimate


def test_a_model_that_never_ran_here_has_no_estimate_and_the_way_to_one(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["plan", str(job)]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("Time")]
    assert "no estimate: this model has not run on this machine" in line
    assert "--measure" in line


def test_the_second_run_of_a_job_is_estimated_from_the_first(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", str(job)]) == 0
    assert "expected time" not in capsys.readouterr().err
    manifest = json.loads((job.parent / "out/manifest.json").read_text())
    estimate = planned(job, capsys)
    assert estimate["seconds"] == pytest.approx(manifest["seconds"], rel=0.01, abs=0.001)
    assert estimate["new_tokens"] == manifest["counts"]["output_tokens"]
    assert not estimate["at_most"]
    assert estimate["source"].startswith("from an earlier run on this machine, the last on 20")
    assert call(["run", str(job), "--fresh"]) == 0
    assert "expected time for 60 answers: about " in capsys.readouterr().err
    assert planned(job, capsys)["source"].startswith("from 2 earlier runs on this machine")


def test_other_settings_of_a_known_model_have_an_upper_bound(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", str(job), "-q"]) == 0
    estimate = planned(job, capsys, "--set", "decoding.max_new_tokens=40")
    assert estimate["at_most"]
    assert estimate["new_tokens"] == len(ROWS) * 40
    assert call(["plan", str(job), "--set", "decoding.max_new_tokens=40"]) == 0
    assert "every answer counts with max_new_tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--limit", "5"], id="too few answers"),
        pytest.param(["--incremental-from", "OUT", "--fresh"], id="answers of another run"),
    ],
)
def test_a_run_without_a_speed_of_its_own_is_not_kept(
    job: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "earlier"
    assert call(["run", str(job), "-q", "-o", str(earlier)]) == 0
    before = planned(job, capsys)
    given = [str(earlier) if one == "OUT" else one for one in options]
    assert call(["run", str(job), "-q", *given]) == 0
    assert planned(job, capsys) == before


def test_sixteen_rows_are_measured(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    estimate = planned(job, capsys, "--measure")
    assert estimate["source"] == "from 16 rows generated now"
    assert estimate["seconds"] > 0
    assert estimate["new_tokens"] == pytest.approx(batchgen.plan(job).tokens.most_new, rel=0.5)
    assert not estimate["at_most"]
    assert not (job.parent / "out").exists()


def test_a_matrix_is_not_measured(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = ["--matrix", "decoding.max_new_tokens=[2, 4]"]
    assert call(["plan", str(job), "--measure", *matrix]) == 2
    assert "--measure times one job" in capsys.readouterr().err


def test_a_damaged_record_is_as_none(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", str(job), "-q"]) == 0
    (file,) = (job.parent / "cache/speeds").glob("*.json")
    file.write_text("{")
    assert planned(job, capsys)["seconds"] is None
