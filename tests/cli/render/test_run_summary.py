"""The final summary of `run`."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchgen.__main__ import call
from batchgen.cli.render.run_summary import print_summary
from batchgen.engines.torch.utilization import meter
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.run_folder import read_json
from tests.conftest import MakeJob

SHARES = ("mfu", "useful_token_share")


def test_a_run_reports_and_stores_its_utilization(
    make_job: MakeJob, demo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"engine": "transformers", "path": str(demo_folder)}
    job = make_job(
        [{"q": "Hello."}, {"q": "Name a colour."}], model=model, decoding={"max_new_tokens": 2}
    )
    assert call(["run", str(job)]) == 0
    shown = re.search(
        r"^tier   continuous, own forward · \d+ workers? \(auto: one per core, at most 8\)\nused   (\d+)% of the machine's peak \(MFU\) · (\d+)% of computed tokens useful$",
        capsys.readouterr().err,
        re.MULTILINE,
    )
    assert shown is not None
    kept: Any = read_json(job.parent / "out" / "manifest.json")["engine"]
    assert [f"{kept[share]:.0%}" for share in SHARES] == [f"{n}%" for n in shown.groups()]
    assert 0 < kept["mfu"] < 1


def test_a_slower_tier_is_reported_with_its_reason(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "not continuous: the model cannot run there (ValueError)"
    facts = {"tier": "static", "tier_fallback": why, "workers": 1, "workers_reason": "padded"}
    result = replace(run(load_job(make_job())), engine=facts)
    print_summary(result, resume="")
    shown = capsys.readouterr().err
    assert f"tier   static · 1 worker (padded)\nslower {why}\n" in shown
    print_summary(replace(result, engine=facts | {"tier_fallback": ""}), resume="")
    assert "\nslower" not in capsys.readouterr().err


@pytest.mark.soak
def test_a_run_reports_a_kernel_that_cannot_be_used(
    make_job: MakeJob, demo_folder: Path, tmp_path: Path
) -> None:
    """A package numba that cannot be imported; in a separate process, since kernels are tried once per process."""
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise ImportError('needs NumPy 2.2')")
    model = {"engine": "transformers", "path": str(demo_folder)}
    job = make_job([{"q": "Hello."}], model=model, decoding={"max_new_tokens": 2})
    done = subprocess.run(
        [sys.executable, "-m", "batchgen", "run", str(job)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ
        | {
            "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}",
            # A verdict without kernels is not kept for runs with them.
            "BATCHGEN_CACHE": str(tmp_path / "cache"),
        },
    )
    reason = "ImportError: needs NumPy 2.2"
    assert f"slower attention without its compiled kernel: {reason}" in done.stderr
    assert f"slower norm without its compiled kernel: {reason}" in done.stderr
    kept: Any = read_json(job.parent / "out" / "manifest.json")["engine"]
    kernels = {name: kept["kernels"][name] for name in ("attention", "norm")}
    assert kernels == dict.fromkeys(kernels, f"torch: {reason}")


def test_a_utilization_above_the_peak_is_not_printed(
    make_job: MakeJob,
    demo_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(meter, "measure_peak_flops", lambda _device, _dtype: 1.0)
    model = {"engine": "transformers", "path": str(demo_folder)}
    job = make_job([{"q": "Hello."}], model=model, decoding={"max_new_tokens": 2})
    assert call(["run", str(job)]) == 0
    line = (
        "used   MFU not measurable: the measured peak is too low · 100% of computed tokens useful"
    )
    assert line in capsys.readouterr().err.splitlines()
    assert read_json(job.parent / "out" / "manifest.json")["engine"]["mfu"] is None


def test_without_a_model_utilization_is_not_reported(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    assert call(["run", str(job)]) == 0
    assert "MFU" not in capsys.readouterr().err
    assert not set(SHARES) & set(read_json(job.parent / "out" / "manifest.json")["engine"])


GATE = {"reference": "q", "metrics": ["exact"], "gates": [{"metric": "exact", "max": 0.5}]}


@pytest.mark.parametrize(
    ("prompts", "sections", "code", "shown"),
    [
        pytest.param(["a", "b"], {}, 0, [r"done   2 rows in .* · 2 ok", "wrote  .*"], id="done"),
        pytest.param(
            ["a", "b"],
            {"decoding": {"num_return_sequences": 3, "temperature": 1}},
            0,
            [r"done   6 answers \(2 rows x 3\) in .* · 6 ok", "wrote  .*"],
            id="answers",
        ),
        pytest.param(
            ["a", "", ""],
            {},
            3,
            [
                r"FAILED 2 rows failed, 0 allowed \(run.max_error_rate: 0.01\): exit code 3",
                r"rows   3 rows in .* · 1 ok · 2 failed",
                r"failed 2 prompt_empty, such as id 1",
                r"wrote  .*",
                r"next   batchgen status .*",
            ],
            id="failed",
        ),
        pytest.param(
            [""] * 200,
            {"batching": {"part_rows": 100}},
            3,
            [
                r"FAILED stopped early: rows: 100 of 200 failed, 2 allowed "
                r"\(run.max_error_rate: 0.01\): exit code 3",
                r"failed 100 prompt_empty, such as id 0",
                r"       100 of 200 rows are saved in .*; failed rows are kept",
                r"next   batchgen status .*",
                r"       then run again with --retry-errors, .*",
                r"       limit, which keeps them; with changed settings, start over with --fresh",
            ],
            id="stopped early",
        ),
        pytest.param(
            ["a", "b"],
            {"evaluate": GATE},
            4,
            [
                r"GATE FAILED 1 of 1 gate did not pass: exit code 4",
                r"rows   2 rows in .* · 2 ok",
                r"gate   FAILED  .*",
                r"wrote  .*",
            ],
            id="gate",
        ),
        pytest.param(
            ["a", "b"],
            {
                "run": {"max_runtime": "0s"},
                "decoding": {"num_return_sequences": 2, "temperature": 1},
            },
            75,
            [
                r"STOPPED run.max_runtime \(0s\) is over: 1 of 4 answers \(2 rows x 2\) are saved .*",
                r"resume batchgen run .*",
            ],
            id="stopped",
        ),
        pytest.param(
            ["long text", "b"],
            {"decoding": {"max_new_tokens": 3}},
            0,
            [
                r"done   2 rows in .* · 2 ok · 2 reached max_new_tokens",
                r"hint   2 of 2 answers reached decoding.max_new_tokens and may lack .*: raise it .*",
                r"wrote  .*",
            ],
            id="cut",
        ),
    ],
)
def test_the_summary_begins_with_a_word_for_the_exit_code(
    make_job: MakeJob,
    capsys: pytest.CaptureFixture[str],
    prompts: list[str],
    sections: dict[str, Any],
    code: int,
    shown: list[str],
) -> None:
    job = make_job([{"q": prompt} for prompt in prompts], **sections)
    assert call(["run", str(job)]) == code
    lines = capsys.readouterr().err.splitlines()
    summary = [line for line in lines if not re.match(r"\d{4}-\d\d-\d\dT", line)]
    for line, pattern in zip(summary, shown, strict=True):
        assert re.fullmatch(pattern, line), line


def test_a_run_that_is_already_complete_is_done(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    assert call(["run", str(job)]) == 0
    capsys.readouterr()
    assert call(["run", str(job)]) == 0
    assert "\ndone   already complete: 1 row · 1 ok\n" in capsys.readouterr().err


def test_commands_to_copy_are_quoted(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "it's out"
    job = make_job([{"q": ""}, {"q": "a"}])
    assert call(["run", str(job), "-o", str(folder)]) == 3
    (shown,) = re.findall(r"^next   (.*)$", capsys.readouterr().err, re.MULTILINE)
    assert shlex.split(shown) == ["batchgen", "status", str(folder)]
    assert call(["status", str(folder)]) == 0
    (shown,) = re.findall(r"^next     (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert shlex.split(shown) == ["batchgen", "show", str(folder), "--failed"]
