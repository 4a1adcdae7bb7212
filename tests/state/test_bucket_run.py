"""Every reading command takes the address of a published run, and finds what is wrong with it."""

import json
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.run.run import run
from tests.conftest import MakeJob
from tests.object_store import KEY_ID, FaultyStore, Rule

ROWS = [{"q": f"row {n}", "gold": f"row {n % 20}"} for n in range(30)]
EVALUATE = {"metrics": ["exact"], "reference": "gold"}


def publish(make_job: MakeJob, store: FaultyStore, prefix: str = "pub") -> str:
    """The address of a run that is published there."""
    output = {"path": prefix, "upload": store.address(prefix)}
    return run(make_job(ROWS, output=output, evaluate=EVALUATE)).uploaded


def said(capfd: pytest.CaptureFixture[str], *command: str) -> str:
    """What a command that succeeds prints, with its exit code if it fails."""
    capfd.readouterr()
    code = call(list(command))
    printed = capfd.readouterr()
    assert KEY_ID not in printed.out + printed.err
    return printed.out if code == 0 else f"{code} {printed.out}{printed.err}"


def test_reading_commands_take_an_address(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    exact = publish(make_job, object_store)
    top, local = object_store.address("pub"), str(tmp_path / "pub")
    publish(make_job, object_store, "new")
    new = object_store.address("new")
    for address in (top, f"{top}/", exact):
        status = said(capfd, "status", address)
        assert status.startswith("test  complete · 30 of 30 rows")
        assert f"next     batchgen show {address}" in status
        assert said(capfd, "verify", address) == "ok       complete · 4 files checked\n"
    for options in (["--row", "7"], ["--where", "score_exact = 0", "-n", "9", "--json"]):
        assert said(capfd, "show", top, *options) == said(capfd, "show", local, *options)
    compared = json.loads(said(capfd, "compare", top, new, "--json"))
    (metric,) = compared["metrics"]
    assert (compared["common"], metric["base"], metric["new"]) == (30, 2 / 3, 2 / 3)
    history = json.loads(said(capfd, "history", top, new, "--json"))
    (job,) = history["jobs"]
    assert [len(one["points"]) for one in job["metrics"]] == [2]
    assert {one["p"] for one in job["drift"][0]["tests"]} == {1.0}
    said(capfd, "export", top, "-o", str(tmp_path / "answers.jsonl"))
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 30
    scores = tmp_path / "scores"
    scored = said(capfd, "score", top, "-m", "length", "--output", str(scores))
    assert "length_characters" in scored
    assert "no output folder given" in said(capfd, "score", top, "-m", "length")
    assert "no file given for the report" in said(capfd, "report", top)


def test_a_copy_is_used_again_until_another_run_is_published(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(make_job, object_store)
    address = object_store.address("pub")
    said(capfd, "status", address)
    read = object_store.sent("GET", "responses.parquet")
    said(capfd, "show", address)
    assert object_store.sent("GET", "responses.parquet") == read
    job = make_job(ROWS[:3], output={"path": "pub", "upload": address}, evaluate=EVALUATE)
    run(job, start="fresh")
    assert said(capfd, "status", address).startswith("test  complete · 3 of 3 rows")


@pytest.mark.parametrize("name", ["responses.parquet", "scores.parquet", "job.yaml"])
def test_damaged_and_missing_files_are_found(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    exact = publish(make_job, object_store)
    key = f"{exact.removeprefix(object_store.address(''))}/{name}"
    content = object_store.get(key)
    assert said(capfd, "verify", exact).startswith("ok")
    object_store.put(key, content[:-9] + b"damaged !")
    assert said(capfd, "verify", exact).startswith(f"6 damaged  {name} ")
    assert f"6 Error: {exact}/{name} was changed or damaged" in said(capfd, "show", exact)
    object_store.delete(key)
    assert said(capfd, "verify", exact).startswith(f"6 damaged  {name} is missing")
    assert f"6 Error: {exact}/{name} is missing" in said(capfd, "show", exact)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "2 Error: ADDRESS is not the address of a published run"),
        ("broken", "6 Error: ADDRESS/manifest.json is damaged"),
        ("outside", "6 Error: ADDRESS/manifest.json is damaged"),
    ],
)
def test_an_address_without_a_run(
    object_store: FaultyStore, capfd: pytest.CaptureFixture[str], path: str, message: str
) -> None:
    object_store.put("broken/manifest.json", b"{")
    object_store.put("outside/manifest.json", b'{"files": [{"name": "../../x", "sha256": ""}]}')
    address = object_store.address(path)
    assert message.replace("ADDRESS", address) in said(capfd, "status", address)


def test_a_store_without_an_answer_and_an_unusable_address(
    object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    object_store.rules.append(Rule("answer", count=99, status=403, code="AccessDenied"))
    assert said(capfd, "status", object_store.address("pub")).startswith("5 Error: cannot read s3:")
    assert said(capfd, "status", "s3://KEY:SECRET@bucket/pub").startswith("2 Error: the address")
