"""Jobs of engine vllm: what `validate` rejects, `plan` without vLLM in the process, and runs that die and are resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.engines.vllm.installed_vllm import find_vllm
from batchgen.state.run_folder import read_json
from tests.conftest import MakeJob
from tests.engines.replicas.test_replicated_engine import alive
from tests.engines.vllm.conftest import Install
from tests.engines.vllm.fake_vllm import SECRET

ROWS = [{"q": f"row {n}"} for n in range(40)]


@pytest.fixture
def job(make_job: MakeJob, model_folder: Path) -> Path:
    return make_job(
        ROWS,
        model={"engine": "vllm", "path": str(model_folder)},
        decoding={"max_new_tokens": 8},
        batching={"max_rows": 4},
    )


@pytest.mark.parametrize(
    ("setting", "key", "message"),
    [
        ("decoding.num_beams=2", "decoding.num_beams", "is not supported by engine vllm"),
        ("decoding.no_repeat_ngram_size=2", "no_repeat_ngram_size", "is not supported"),
        ("decoding.generation_kwargs={typical_p: 0.5}", "generation_kwargs", "is not supported"),
        ("decoding.temperature=0.005", "decoding.temperature", "from 0.01 to 2, and 0"),
        ("decoding.temperature=2.5", "decoding.temperature", "from 0.01 to 2, and 0"),
        ("decoding.columns={no_repeat_ngram_size: q}", "decoding.columns", "is not supported"),
        ("decoding.response_format={regex: a+, after: x}", "response_format.after", "is not"),
        ("batching.max_tokens=100", "batching.max_tokens", "is not supported by engine vllm"),
        ("model.attn_implementation=eager", "attn_implementation", "is not supported"),
        ("model.base_url=http://x/v1", "model.base_url", "is not supported"),
        ("model.engine_args={dtype: float16}", "engine_args.dtype", "use model.dtype"),
        ("model.engine_args={max_num_seqs: 8}", "max_num_seqs", "use batching.max_rows"),
        ("model.engine_args={seed: 1}", "engine_args.seed", "use run.seed"),
        ("model.engine_args={data_parallel_rank: 1}", "data_parallel_rank", "set by batchgen"),
        ("model.engine_args={logging_config: x}", "logging_config", "is set by batchgen"),
        ("model.engine_args={enforce_eagr: true}", "enforce_eagr", "no such engine argument"),
        ("model.path=null", "model.path", "is required by engine vllm"),
    ],
)
def test_validate_rejects_what_vllm_cannot_honor(
    install: Install,
    job: Path,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    key: str,
    message: str,
) -> None:
    install()
    assert call(["validate", str(job), "--set", setting]) == 2
    shown = capsys.readouterr().err
    assert key in shown
    assert message in shown
    assert call(["validate", str(job)]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": "logprobs_mode"}, "has no engine argument logprobs_mode"),
        ({"without": "max_logprobs"}, "has no engine argument max_logprobs"),
    ],
)
def test_a_version_without_a_field_is_an_error_of_validate(
    install: Install,
    job: Path,
    capsys: pytest.CaptureFixture[str],
    changes: Mapping[str, str],
    message: str,
) -> None:
    install(**changes)
    assert call(["validate", str(job)]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "pip install --upgrade vllm" in shown


def test_without_vllm_every_command_names_the_pip_command(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_vllm() is not None:
        pytest.skip("vllm is installed")
    for command, code in (("validate", 2), ("plan", 2), ("run", 2)):
        assert call([command, str(job)]) == code
        shown = capsys.readouterr().err
        assert "needs the package vllm, which is not installed" in shown
        assert "pip install vllm" in shown


SCRIPT = """
import sys
from batchgen.__main__ import call
code = call(sys.argv[1:])
assert "vllm" not in sys.modules and "tests.engines.vllm.fake_vllm" not in sys.modules
sys.exit(code)
"""


def test_plan_describes_vllm_without_importing_it(install: Install, job: Path) -> None:
    install()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, "plan", str(job), "--prompts", "0"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "vllm · vLLM 0.99.0+cpu · auto (default) · cpu" in ran.stdout
    assert "VLLM_BATCH_INVARIANT is not set" in ran.stdout
    assert "up to 4 at a time (job)" in ran.stdout
    assert "1 worker (vLLM uses all cores)" in ran.stdout


def answers(job: Path) -> pl.DataFrame:
    return pl.read_parquet(job.parent / "out" / "responses.parquet")


def test_a_run_writes_answers_and_what_computed_them(
    install: Install, job: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    install()
    assert call(["run", str(job), "--json"]) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["ok"] is True
    assert "imported" not in printed.out + printed.err
    found = answers(job)
    assert found["finish_reason"].to_list() == ["length"] * 40
    assert found["output_tokens"].to_list() == [8] * 40
    manifest = read_json(job.parent / "out" / "manifest.json")
    assert manifest["settings"]["model"]["computed_by"] == {
        "vllm": "0.99.0+cpu",
        "tensor_parallel": 1,
        "batch_invariant": False,
        "engine_args": {},
    }
    assert manifest["engine"]["vllm"] == "0.99.0+cpu"


def test_a_run_is_continued_only_by_the_same_vllm(
    install: Install,
    job: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install()
    monkeypatch.setenv("FAKE_VLLM", json.dumps({token("9"): "die"}))
    assert call(["run", str(job)]) == 5
    monkeypatch.setenv("FAKE_VLLM", "{}")
    capsys.readouterr()
    for setting in ("model.engine_args={quantization: fp8}", "model.tensor_parallel=2"):
        assert call(["run", str(job), "--set", setting]) == 6
        assert "computed_by" in capsys.readouterr().err
    install(version="0.99.1+cpu")
    assert call(["run", str(job)]) == 6
    assert "0.99.1" in capsys.readouterr().err


def token(character: str) -> str:
    """Its id in the tiny tokenizer, whose ids are those of the sorted byte alphabet."""
    return str(ord(character) - ord("!"))


@pytest.mark.soak
@pytest.mark.parametrize("does", ["die", "crash", "kill"])
def test_rows_that_kill_vllm_are_found_and_no_row_is_lost(
    install: Install,
    job: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    does: str,
) -> None:
    """The run dies twice; the third start answers the rows in flight in processes of their own."""
    install()
    monkeypatch.setenv("FAKE_VLLM", json.dumps({token("#"): does}))
    rows = [{"q": f"row {n}{'#' if n == 1 else ''}"} for n in range(2)]
    (job.parent / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    assert [call(["run", str(job)]) for _ in range(2)] == [5, 5]
    assert call(["run", str(job), "--set", "run.max_error_rate=0.5"]) == 0
    found = answers(job)
    assert found["id"].n_unique() == len(found) == 2
    assert found["finish_reason"].to_list().count("error") == 1
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err


@pytest.mark.soak
def test_a_second_signal_ends_a_run_whose_vllm_hangs(install: Install, job: Path) -> None:
    install()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FAKE_VLLM": json.dumps({token("9"): "hang"}),
    }
    command = [sys.executable, "-m", "batchgen", "run", str(job)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as running:
        pids = Path(os.environ["FAKE_VLLM_PIDS"])
        assert wait_until(pids.exists)
        time.sleep(1)
        assert running.stderr is not None
        running.send_signal(signal.SIGINT)
        assert wait_until(lambda: b"once more" in running.stderr.readline())  # type: ignore[union-attr]
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == -signal.SIGINT
    started = [int(pid) for pid in pids.read_text("utf-8").split()]
    assert wait_until(lambda: not any(map(alive, started)))


def wait_until(condition: Callable[[], bool]) -> bool:
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.05)
    return False
