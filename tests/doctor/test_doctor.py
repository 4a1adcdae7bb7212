"""The findings on real machines: broken libraries, hubs that respond or do not, folders that cannot be written, jobs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from batchgen.doctor.job_checks import check_job
from batchgen.jobfile.load import load_job

MakeJob = Callable[..., Path]
ROOT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:9"
pytestmark = pytest.mark.slow


def examine(
    *arguments: str, env: Mapping[str, str] | None = None, path: str = ""
) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The exit code and the findings by topic."""
    done = subprocess.run(
        [sys.executable, "-m", "batchgen", "doctor", *arguments, "--json"],
        check=False,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HF_ENDPOINT": NOBODY,
            "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)])),
            **(env or {}),
        },
    )
    assert done.stderr == ""
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found: dict[str, list[dict[str, str]]] = {}
    for finding in printed["findings"]:
        found.setdefault(finding["topic"], []).append(finding)
        assert finding["fix"] or finding["status"] != "problem"
    return done.returncode, found


@pytest.fixture
def hub() -> Iterator[str]:
    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_machine_with_a_hub_and_an_incomplete_model(tmp_path: Path, hub: str) -> None:
    snapshot = tmp_path / "hub" / "models--org--half" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "llama"}')
    code, found = examine(
        env={"HF_ENDPOINT": hub, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": ""}
    )
    assert code == 0
    assert found["hub"][0]["status"] == "ok"
    half = [one for one in found["models"] if one["status"] == "note"]
    assert [one["fix"] for one in half] == ["Download the rest: batchgen models get org/half."]
    assert set(found) >= {"python", "processor", "memory", "torch", "kernels", "libraries", "cache"}
    assert found["torch"][0]["status"] == "ok"


@pytest.mark.parametrize(
    ("module", "topic", "status", "code"),
    [("torch", "torch", "problem", 5), ("numba", "kernels", "note", 0)],
)
def test_a_broken_library(tmp_path: Path, module: str, topic: str, status: str, code: int) -> None:
    (tmp_path / f"{module}.py").write_text("raise ImportError('libfoo.so: no such file')")
    returned, found = examine(path=str(tmp_path))
    assert returned == code
    assert found[topic][0]["status"] == status
    assert "libfoo.so" in found[topic][0]["text"]


def test_caches_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, found = examine(env={"BATCHGEN_CACHE": str(tmp_path / "file" / "cache")})
    assert code == 5
    assert found["cache"][0]["status"] == "problem"
    assert found["cache"][0]["fix"] == "Set BATCHGEN_CACHE to another folder."


ROWS = [{"q": "one"}, {"q": "two"}]


@pytest.mark.parametrize(
    ("changes", "topic", "status", "text"),
    [
        ({}, "job", "ok", "engine echo"),
        ({"prompt.user": "{{ nothing }}"}, "job", "problem", "nothing"),
        ({"input.path": "absent.jsonl"}, "job", "problem", "absent.jsonl"),
        ({"decoding.temprature": "1"}, "job", "problem", "temprature"),
        ({"model.path": "org/absent"}, "model", "problem", "the hub is not reachable"),
        ({"output.path": "file/out"}, "output", "problem", "not a folder"),
    ],
)
def test_a_job(
    make_job: MakeJob, changes: dict[str, str], topic: str, status: str, text: str
) -> None:
    job = make_job(ROWS)
    (job.parent / "file").write_text("")
    overrides = [f"{key}={value}" for key, value in changes.items()]
    found = list(check_job(lambda: load_job(job, overrides=overrides), hub_reachable=False))
    assert [one.status for one in found if one.topic == topic and text in one.text] == [status]
    assert all(one.fix for one in found if one.status == "problem")


def test_each_error_of_a_job_file_is_a_finding_with_its_hint(make_job: MakeJob) -> None:
    job = make_job(ROWS, nam="x", inptu={})
    found = list(check_job(lambda: load_job(job), hub_reachable=False))
    assert [(one.text.split(": ", 1)[1], one.fix) for one in found] == [
        ("inptu: unknown key", "Did you mean input?"),
        ("nam: unknown key", "Did you mean name?"),
    ]


def test_a_job_file_that_is_absent() -> None:
    code, found = examine("absent.yaml", env={"HF_HUB_OFFLINE": "1"})
    assert (code, found["job"][0]["status"]) == (5, "problem")
    assert found["job"][0]["fix"] == "Give the path of a job file."
    assert found["hub"][0]["status"] == "note"
