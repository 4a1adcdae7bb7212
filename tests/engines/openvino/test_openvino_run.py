"""Whole runs with the engine: whatever goes wrong in the library, no row is lost or doubled."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pytest

from batchgen.__main__ import call

pytest.importorskip("openvino_genai")

from tests.engines.openvino.tiny_graph import write_tiny_folder

ROOT = Path(__file__).resolve().parents[3]
FAKES = Path(__file__).parent / "fakes"
DEADLY = "abC"
"""The text of a row with the tokens at which the stand-in misbehaves."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_folder(folder)
    return folder


def write_job(folder: Path, model: Path, texts: Sequence[str], new_tokens: int = 8) -> Path:
    rows = [json.dumps({"id": f"r{n}", "text": text}) for n, text in enumerate(texts)]
    (folder / "in.jsonl").write_text("\n".join(rows) + "\n")
    job = folder / "job.yaml"
    job.write_text(
        "version: 1\nname: tiny\n"
        "input: {path: in.jsonl, columns: {id: id}}\n"
        "prompt: {user: '{{ text }}', chat_template: none}\n"
        f"model: {{path: {model}, engine: openvino, dtype: float32}}\n"
        f"decoding: {{max_new_tokens: {new_tokens}}}\n"
        "batching: {max_rows: 4, max_tokens: 4096}\n"
        "run: {max_error_rate: 0.5}\n"
        "output: {path: out}\n"
    )
    return job


def command(job: Path, name: str = "run") -> list[str]:
    return [sys.executable, "-m", "batchgen", name, str(job)]


def environment(cache: Path, behavior: str | None = None) -> dict[str, str]:
    paths = [str(ROOT)] if behavior is None else [str(FAKES), str(ROOT)]
    own = {"BATCHGEN_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(paths)}
    return {**os.environ, **own, "FAKE_OPENVINO": behavior or ""}


def run(
    job: Path, behavior: str | None = None, name: str = "run"
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(job, name),
        env=environment(job.parent / "cache", behavior),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def answers(job: Path) -> "dict[str, tuple[str | None, str | None]]":
    table = pl.read_parquet(job.parent / "out" / "responses.parquet")
    assert table["id"].is_unique().all()
    failures = table["error"].to_list()
    return dict(zip(table["id"], zip(table["response"], failures, strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behavior", "reason"),
    [("wrong", "returned token 1000000"), ("early", "without an end token")],
)
def test_a_row_that_the_library_answers_wrongly_fails_alone(
    tmp_path: Path, model: Path, behavior: str, reason: str
) -> None:
    job = write_job(tmp_path, model, ["ab", DEADLY, "de"])
    done = run(job, behavior)
    assert done.returncode == 0, done.stderr
    found = answers(job)
    assert found["r0"] == (" a b a b a b a b", None)
    assert found["r2"] == (" d e d e d e d e", None)
    assert reason in str(found["r1"][1])


@pytest.mark.slow
def test_what_the_library_prints_is_not_on_stdout(tmp_path: Path, model: Path) -> None:
    done = run(write_job(tmp_path, model, ["ab"]), "print")
    assert done.returncode == 0, done.stderr
    assert "the library prints" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_is_continued_only_by_the_same_version(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = write_job(tmp_path, model, ["ab", "cd"])
    assert run(job).returncode == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["model"]["computed_by"] == {
        "openvino_genai": version("openvino-genai")
    }
    (tmp_path / "out" / "manifest.json").unlink()
    monkeypatch.setattr(
        "batchgen.engines.openvino.installed_openvino.version", lambda _: "2027.1.0"
    )
    assert call(["run", str(job)]) == 6
    assert "computed_by" in capsys.readouterr().err


@pytest.mark.soak
@pytest.mark.parametrize("behavior", ["abort", "raise", "hang"])
def test_a_row_that_breaks_the_library_is_found_and_fails_alone(
    tmp_path: Path, model: Path, behavior: str
) -> None:
    texts = [DEADLY if n == 17 else f"{chr(97 + n % 26)}z" for n in range(40)]
    job = write_job(tmp_path, model, texts)
    for _ in range(2):
        died = run(job, behavior)
        assert died.returncode == 5, died.stderr
        assert "OpenVINO GenAI" in died.stderr
    done = run(job, behavior)
    assert done.returncode == 0, done.stderr
    found = answers(job)
    assert "the process died" in str(found.pop("r17")[1])
    assert len(found) == 39
    assert all(failure is None for _, failure in found.values())


@pytest.mark.soak
def test_a_kill_of_either_process_loses_and_doubles_no_row(tmp_path: Path, model: Path) -> None:
    texts = [chr(97 + n % 26) * (1 + n % 7) + chr(65 + n % 20) for n in range(300)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    expected = write_job(whole, model, texts, new_tokens=100)
    assert run(expected).returncode == 0
    job = write_job(killed, model, texts, new_tokens=100)
    for victim in ("engine", "batchgen"):
        with subprocess.Popen(
            command(job), env=environment(killed / "cache"), stderr=subprocess.PIPE, text=True
        ) as started:
            engine = wait_for_engine(started.pid)
            time.sleep(1.5)
            os.kill(engine if victim == "engine" else started.pid, signal.SIGKILL)
            _, printed = started.communicate(timeout=60)
        if victim == "engine":
            assert started.returncode == 5, printed
            assert "the process" in printed
            assert "OpenVINO GenAI has died" in printed
        wait_until_ended(engine)
    assert run(job).returncode == 0
    assert answers(job) == answers(expected)


def wait_for_engine(parent: int) -> int:
    """The child process that has loaded the library."""
    for _ in range(600):
        for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if "libopenvino" in Path(f"/proc/{pid}/maps").read_text():
                return int(pid)
        time.sleep(0.1)
    pytest.fail("no engine process")


def wait_until_ended(pid: int) -> None:
    for _ in range(300):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.1)
    pytest.fail("the engine outlives batchgen")
