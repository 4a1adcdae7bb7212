"""Output and errors of `batchgen bench`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.bench.bench import Benchmark, EngineResult, Workload
from batchgen.bench.bench_work import NotMeasured
from batchgen.bench.contenders import MachinePeak
from batchgen.cli.bench import lines, summary
from tests.conftest import MakeJob

FOUND = Benchmark(
    machine=MachinePeak(device="EPYC", peak=188e9, bandwidth=56e9, threads=2),
    workload=Workload(
        name="built-in",
        model="demo:smollm2-135m",
        parameters=134_515_008,
        dtype="float32",
        rows=48,
        refused=2,
        prompt_tokens=4012,
        most_new_tokens=2880,
    ),
    engines={
        "continuous": EngineResult(3.0, 10.0, 2500, useful_token_share=0.996, mfu=0.642),
        "generate": EngineResult(1.0, 25.0, 2500, useful_token_share=0.4, mfu=0.2),
        "vllm": NotMeasured("not installed"),
    },
)


def test_the_table_compares_every_engine_with_generate() -> None:
    shown = "\n".join(lines(FOUND))
    assert "EPYC · 2 threads · 188 GFLOP/s float32 matrix products · 56 GB/s" in shown
    assert "48 rows · 4,012 prompt tokens · at most 2,880 new · 2 failed" in shown
    table = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line}
    assert table["continuous"] == ["250.0", "2.50", "100%", "64%", "10.0", "3.0"]
    assert table["generate"] == ["100.0", "1.00", "40%", "20%", "25.0", "1.0"]
    assert table["vllm"] == ["not", "installed"]


def test_the_json_object_contains_all_figures() -> None:
    printed = json.loads(json.dumps(summary(FOUND)))
    assert printed["machine"]["peak"] == 188e9
    assert printed["workload"]["rows"] == 48
    assert printed["engines"]["continuous"]["new_tokens_per_second"] == 250
    assert printed["engines"]["vllm"] == {"not_measured": "not installed"}


def test_without_generate_there_is_no_comparison() -> None:
    shown = lines(replace(FOUND, engines={**FOUND.engines, "generate": NotMeasured("failed")}))
    (continuous,) = [line.split()[1:] for line in shown if line.startswith("continuous")]
    assert continuous == ["250.0", "100%", "64%", "10.0", "3.0"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["JOB"], 2, "Name one with --model", id="no model"),
        pytest.param(["nowhere.yaml"], 2, "nowhere.yaml", id="no such job"),
        pytest.param(["JOB", "--rows", "0"], 2, "0 is not in the range", id="no rows"),
        pytest.param(["--model", "./gone"], 5, "gone", id="no such model"),
        pytest.param(["--set", "model.dtyp=x"], 2, "dtype", id="a wrong key"),
    ],
)
def test_errors_name_their_cause(
    make_job: MakeJob,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    job = str(make_job())
    assert call(["bench", *(job if a == "JOB" else a for a in arguments)]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["./model", "model", "../here/model", "~/model"])
@pytest.mark.parametrize("with_job", [False, True])
def test_a_model_folder_is_relative_to_the_working_directory(
    make_job: MakeJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    with_job: bool,
) -> None:
    """The folder is found; it has no model."""
    here = tmp_path / "here"
    (here / "model").mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    arguments = [str(make_job())] if with_job else []
    assert call(["bench", *arguments, "--model", name, "-s", "model.engine=transformers"]) == 5
    err = capsys.readouterr().err
    assert str(here / "model") in err or str(here / ".." / "here" / "model") in err
    assert "no folder" not in err
