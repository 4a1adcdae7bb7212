"""Runs whose input is in a bucket: what is recorded, what a resumed run rejects, and what is missing without the extra."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.run.run import run
from tests.conftest import MakeJob
from tests.object_store import KEY_ID, SECRET, FaultyStore

ROWS = "".join(json.dumps({"q": f"row {n}"}) + "\n" for n in range(40)).encode()


def bucket_job(make_job: MakeJob, store: FaultyStore) -> Path:
    store.put("day/rows.jsonl", ROWS)
    return make_job(input={"path": store.address("day/*.jsonl")}, batching={"part_rows": 10})


def test_the_run_records_the_object_and_no_secret(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    job = bucket_job(make_job, object_store)
    assert call(["run", str(job)]) == 0
    folder = job.parent / "out"
    responses = pl.read_parquet(folder / "responses.parquet")["response"].to_list()
    assert responses == [f"row {n}" for n in range(40)]
    (recorded,) = json.loads((folder / "manifest.json").read_text())["input"]
    assert recorded["path"] == object_store.address("day/rows.jsonl")
    assert recorded["name"] == "rows.jsonl"
    assert recorded["e_tag"]
    printed = "".join(capfd.readouterr())
    texts = [printed.encode(), *(p.read_bytes() for p in folder.rglob("*") if p.is_file())]
    assert not [text for text in texts if SECRET.encode() in text or KEY_ID.encode() in text]


def test_a_resumed_run_rejects_another_version(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    job = bucket_job(make_job, object_store)
    steps = iter(range(5))
    assert run(job, stop=lambda: next(steps, None) is None).outcome == "stopped"
    object_store.put("day/rows.jsonl", ROWS.replace(b"row 7", b"row seven"))
    assert call(["run", str(job)]) == 6
    assert (
        f"other input: {object_store.address('day/rows.jsonl')} changed" in capfd.readouterr().err
    )
    object_store.put("day/rows.jsonl", ROWS)
    assert call(["run", str(job)]) == 0
    table = pl.read_parquet(job.parent / "out" / "responses.parquet")
    assert table["response"].to_list() == [f"row {n}" for n in range(40)]


def test_without_the_extra_the_command_that_installs_it_is_named(
    make_job: MakeJob, object_store: FaultyStore
) -> None:
    job = bucket_job(make_job, object_store)
    script = "import sys; sys.modules['obstore'] = None; from batchgen.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "validate", str(job)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    assert "object storage needs the extra `objects`" in done.stderr
    assert "pip install 'batchgen-llm[objects]'" in done.stderr
