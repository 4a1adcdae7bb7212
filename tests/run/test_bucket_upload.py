"""Published runs in a bucket of a real S3 server: what readers see at every moment, under every fault and kill."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.run.run import run
from batchgen.storage.failpoints import UPLOAD_POINTS, VARIABLE
from tests.conftest import MakeJob
from tests.object_store import KEY_ID, SECRET, FaultyStore, Rule

ROWS = [{"q": f"row {n}"} for n in range(30)]
TOP = "pub/manifest.json"
_QUICK = ("upload.after_file:3", "upload.after_manifest")


def upload_job(
    make_job: MakeJob, store: FaultyStore, rows: Sequence[Any] = ROWS, **more: Any
) -> Path:
    output = {"path": "out", "upload": store.address("pub"), **more}
    return make_job(rows, output=output, evaluate={"metrics": ["length"]})


def published(store: FaultyStore) -> dict[str, Any] | None:
    """The top manifest, after all files that it names were checked; None if there is none."""
    if TOP not in store.listing():
        return None
    top: dict[str, Any] = json.loads(store.get(TOP))
    for file in top["files"]:
        content = store.get(f"pub/{file['name']}")
        assert hashlib.sha256(content).hexdigest() == file["sha256"], file["name"]
    inner = json.loads(store.get(f"pub/{top['folder']}/manifest.json"))
    assert inner["run_id"] == top["run_id"]
    return top


def test_a_run_is_published_in_the_bucket(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    job = upload_job(make_job, object_store)
    assert call(["run", str(job), "--json"]) == 0
    printed = capfd.readouterr()
    address = json.loads(printed.out.splitlines()[-1])["uploaded"]
    assert f"upload {address}" in printed.err
    top = published(object_store)
    assert top is not None
    assert address == object_store.address(f"pub/{top['folder']}")
    names = {key.removeprefix(f"pub/{top['folder']}/") for key in object_store.listing()}
    assert names == {
        *("responses.parquet", "scores.parquet", "metrics.parquet", "job.yaml", "manifest.json"),
        TOP,
    }
    local = (job.parent / "out" / "responses.parquet").read_bytes()
    assert object_store.get(f"pub/{top['folder']}/responses.parquet") == local
    printed_and_stored = [printed.err.encode(), printed.out.encode()]
    printed_and_stored += [p.read_bytes() for p in job.parent.rglob("*") if p.is_file()]
    printed_and_stored += [object_store.get(key) for key in object_store.listing()]
    for text in printed_and_stored:
        assert SECRET.encode() not in text
        assert KEY_ID.encode() not in text
    sent = object_store.sent("PUT")
    assert call(["run", str(job)]) == 0
    assert object_store.sent("PUT") == sent, "a run that is uploaded is not uploaded again"


def test_scores_that_were_computed_again_are_uploaded_by_the_next_run(
    make_job: MakeJob, object_store: FaultyStore
) -> None:
    job = upload_job(make_job, object_store)
    first = run(job).uploaded
    make_job(
        ROWS,
        output={"path": "out", "upload": object_store.address("pub")},
        evaluate={"metrics": ["length", "repetition"]},
    )
    second = run(job).uploaded
    assert first != second
    top = published(object_store)
    assert top is not None
    assert second.endswith(top["folder"])
    old = first.removeprefix(object_store.address(""))
    assert f"{old}/responses.parquet" in object_store.listing(), (
        "readers of the old manifest still find its files"
    )


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(Rule("lose the answer", "PUT", TOP), id="lost answer to the manifest"),
        pytest.param(
            Rule("lose the answer", "PUT", "responses.parquet"), id="lost answer to a file"
        ),
        pytest.param(Rule("answer", "PUT", TOP, 2, 503), id="503 for the manifest"),
        pytest.param(Rule("answer", "PUT", "scores.parquet", 2, 503), id="503 for a file"),
        pytest.param(Rule("answer", "PUT", TOP, 1, 409, "ConditionalRequestConflict"), id="409"),
        pytest.param(Rule("lose the answer", "PUT", ".probe-"), id="lost answer to the probe"),
    ],
)
def test_passing_faults_are_survived(
    make_job: MakeJob, object_store: FaultyStore, rule: Rule
) -> None:
    job = upload_job(make_job, object_store)
    object_store.rules.append(rule)
    code = call(["run", str(job)])
    assert rule.count == 0
    if code != 0:
        assert code == 75
        assert call(["run", str(job)]) == 0
    top = published(object_store)
    assert top is not None
    assert top["counts"]["rows"] == len(ROWS)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        pytest.param(Rule("answer", "PUT", "/pub/2", 99, 400, "ExpiredToken"), 5, id="expired"),
        pytest.param(Rule("answer", "PUT", TOP, 99, 403, "AccessDenied"), 5, id="denied"),
    ],
)
def test_a_lasting_fault_loses_nothing_and_the_same_command_uploads_only(
    make_job: MakeJob,
    object_store: FaultyStore,
    capfd: pytest.CaptureFixture[str],
    rule: Rule,
    code: int,
) -> None:
    job = upload_job(make_job, object_store)
    object_store.rules.append(rule)
    assert call(["run", str(job)]) == code
    said = capfd.readouterr().err
    assert "the store rejected the credentials or the access" in said
    assert f"All answers are in {job.parent / 'out'}; the same command uploads only." in said
    assert KEY_ID not in said
    assert published(object_store) is None
    object_store.rules.clear()
    result = run(job)
    assert result.outcome == "already complete"
    assert published(object_store) is not None


def test_missing_credentials_are_found_before_the_first_row(
    make_job: MakeJob, object_store: FaultyStore
) -> None:
    job = upload_job(make_job, object_store)
    object_store.rules.append(Rule("answer", "PUT", ".probe-", 99, 403, "AccessDenied"))
    assert call(["run", str(job)]) == 5
    assert not list((job.parent / "out" / ".batchgen" / "parts").iterdir())


def start(job: Path, **environment: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "batchgen", "run", str(job), "--quiet"],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
    )


KILLS = [
    pytest.param(point, marks=pytest.mark.slow if point in _QUICK else pytest.mark.soak)
    for point in (*UPLOAD_POINTS, "upload.after_file:3")
]


@pytest.mark.parametrize("point", KILLS)
def test_after_a_kill_the_next_run_completes_the_upload(
    make_job: MakeJob, object_store: FaultyStore, point: str
) -> None:
    job = upload_job(make_job, object_store)
    with start(job, **{VARIABLE: point}) as process:
        assert process.wait(120) == -9
    assert (published(object_store) is not None) == (point == "upload.after_manifest")
    assert run(job).uploaded
    assert published(object_store) is not None


def test_of_two_runs_that_publish_at_once_the_first_wins(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    job = upload_job(make_job, object_store)
    race = Rule("none", "PUT", TOP)
    race.then = lambda: object_store.put(
        TOP, json.dumps({"run_id": "other", "job": "test", "folder": "x", "files": []}).encode()
    )
    object_store.rules.append(race)
    assert call(["run", str(job)]) == 6
    assert (
        "run other of job test was published there during the upload; it stays"
        in capfd.readouterr().err
    )
    assert json.loads(object_store.get(TOP))["run_id"] == "other"
    assert call(["run", str(job)]) == 6, "also when it is repeated"
    assert call(["run", str(job), "--set", f"output.upload={object_store.address('free')}"]) == 0


def test_a_later_run_of_the_job_replaces_the_earlier_one(
    make_job: MakeJob, object_store: FaultyStore
) -> None:
    job = upload_job(make_job, object_store)
    first = run(job)
    second = run(job, start="fresh")
    top = published(object_store)
    assert top is not None
    assert top["run_id"] == second.run_id != first.run_id


def test_a_run_of_another_job_is_never_replaced(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    run(upload_job(make_job, object_store))
    job = make_job(
        ROWS, name="else", output={"path": "out2", "upload": object_store.address("pub")}
    )
    assert call(["run", str(job)]) == 6
    assert "a run of job test is published there, not of else" in capfd.readouterr().err


def test_a_store_that_ignores_conditions_is_found(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    object_store.rules.append(Rule("ignore conditions", "PUT", count=999))
    assert call(["run", str(upload_job(make_job, object_store))]) == 0
    assert "ignores conditions of a put" in capfd.readouterr().err
    assert published(object_store) is not None


def test_a_trial_uploads_nothing_and_neither_does_a_withheld_run(
    make_job: MakeJob, object_store: FaultyStore
) -> None:
    job = upload_job(make_job, object_store)
    assert call(["run", str(job), "--limit", "5"]) == 0
    assert object_store.listing() == []
    gated = make_job(
        ROWS,
        output={"path": "gated", "upload": object_store.address("pub"), "publish": "gated"},
        evaluate={"metrics": ["length"], "gates": [{"metric": "length_characters", "min": 1e9}]},
    )
    assert call(["run", str(gated)]) == 4
    assert object_store.listing() == []


def test_other_readers_find_the_files(make_job: MakeJob, object_store: FaultyStore) -> None:
    run(upload_job(make_job, object_store, layout="parts"))
    top = published(object_store)
    assert top is not None
    options = {"aws_endpoint_url": object_store.direct, "aws_allow_http": "true"}
    table = pl.read_parquet(
        object_store.address(f"pub/{top['folder']}/responses/*.parquet"), storage_options=options
    )
    assert table["response"].to_list() == [row["q"] for row in ROWS]
