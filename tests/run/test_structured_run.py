"""Runs of the demo model with forms: every ended answer is valid, and kills, workers and batches change no answer."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import polars as pl
import pytest

from batchgen.jobfile.load import load_job
from batchgen.run.run import run

MakeJob = Callable[..., Path]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "topic": {"enum": ["billing", "delivery", "returns", "other"]},
        "urgent": {"type": "boolean"},
        "summary": {"type": "string", "maxLength": 40},
    },
    "required": ["topic", "urgent", "summary"],
    "additionalProperties": False,
}
COLUMNS = ("id", "response", "finish_reason", "output_tokens", "seed")
ROWS = 48


def rows() -> list[dict[str, Any]]:
    """Every third row has labels of its own instead of the schema; every second one is sampled."""
    letters = ("The parcel has not come.", "I was charged twice.", "How do I return shoes?")
    return [
        {
            "q": f"{letters[n % 3]} Order {n}. Which topic is it, and is it urgent?",
            "labels": ["urgent", "not urgent", f"order {n}"] if n % 3 == 1 else None,
            "temperature": 1.0 if n % 2 else None,
        }
        for n in range(ROWS)
    ]


@pytest.fixture
def job(make_job: MakeJob, demo_folder: Path) -> Path:
    decoding = {
        "max_new_tokens": 40,
        "columns": {"temperature": "temperature"},
        "response_format": {"json_schema": SCHEMA, "columns": {"choice": "labels"}},
    }
    model = {"path": str(demo_folder), "engine": "transformers"}
    return make_job(rows(), model=model, decoding=decoding, batching={"part_rows": 16})


def answers(job: Path, folder: Path, **overrides: object) -> pl.DataFrame:
    sets = [f"{key.replace('__', '.')}={value}" for key, value in overrides.items()]
    result = run(load_job(job, overrides=[f"output.path={folder}", *sets]))
    return result.frame().select(*COLUMNS)


def check(frame: pl.DataFrame) -> None:
    ended = 0
    for row, found in zip(rows(), frame.iter_rows(named=True), strict=True):
        if found["finish_reason"] != "stop":
            assert (found["finish_reason"], row["labels"]) == ("length", None)
        elif row["labels"] is not None:
            ended += 1
            assert found["response"] in row["labels"]
        else:
            ended += 1
            assert jsonschema_rs.is_valid(SCHEMA, json.loads(found["response"]))
    assert ended > ROWS * 0.8


def killed(job: Path, folder: Path, seconds: float) -> None:
    command = [sys.executable, "-m", "batchgen", "run", str(job), "--set", f"output.path={folder}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        until = time.monotonic() + 300
        journal = folder / ".batchgen" / "journal.sqlite-wal"
        while time.monotonic() < until and started.poll() is None and not journal.exists():
            time.sleep(0.05)
        time.sleep(seconds)
        started.send_signal(signal.SIGKILL)


@pytest.mark.soak
def test_batches_workers_and_kills_change_no_answer(job: Path, tmp_path: Path) -> None:
    expected = answers(job, tmp_path / "one")
    check(expected)
    ways: Mapping[str, Mapping[str, object]] = {
        "rows": {"batching__max_rows": 5, "batching__sort": "none"},
        "workers": {"run__workers": 2},
        "memory": {"batching__max_tokens": 700},
    }
    for name, overrides in ways.items():
        assert answers(job, tmp_path / name, **overrides).equals(expected), name
    for seconds in (1.0, 3.0):
        killed(job, tmp_path / "kill", seconds)
    assert answers(job, tmp_path / "kill").equals(expected)


@pytest.mark.soak
def test_rows_without_a_form_are_those_of_a_run_without_forms(
    make_job: MakeJob, demo_folder: Path, tmp_path: Path
) -> None:
    model = {"path": str(demo_folder), "engine": "transformers"}
    decoding = {"max_new_tokens": 24, "columns": {"temperature": "temperature"}}
    plain = answers(make_job(rows(), model=model, decoding=decoding), tmp_path / "plain")
    form = {"response_format": {"columns": {"choice": "labels"}}}
    mixed = answers(make_job(rows(), model=model, decoding=decoding | form), tmp_path / "mixed")
    free = [row["labels"] is None for row in rows()]
    assert mixed.filter(free).equals(plain.filter(free))
    assert not mixed.equals(plain)
