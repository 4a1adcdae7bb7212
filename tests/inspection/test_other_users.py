"""A run that was published for others (`output.file_mode`) is read by a user who may not enter its private folder.

Permissions do not bind root, so these tests run the commands without the capabilities that exempt it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder

MakeJob = Callable[..., Path]

CALLS = """
import contextlib, io, json, sys
from batchgen.__main__ import call
results = []
for command in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = call(command)
    results.append([code, out.getvalue() + err.getvalue()])
print(json.dumps(results))
"""


@pytest.fixture
def published(make_job: MakeJob) -> Iterator[RunFolder]:
    """A scored run whose folder is read-only and whose private folder may not be entered."""
    job = make_job(
        [{"q": "hello", "gold": "hello"}, {"q": "bye", "gold": "no"}],
        output={"file_mode": "0644"},
        evaluate={"metrics": ["exact"], "reference": "gold"},
    )
    folder = run(load_job(job)).folder
    folder.private.chmod(0)
    folder.path.chmod(0o555)
    yield folder
    folder.path.chmod(0o755)
    folder.private.chmod(0o700)


def call_unprivileged(*commands: list[str]) -> list[tuple[int, str]]:
    """Exit code and output of each command."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root needs setpriv to give up its exemption from permissions")
        prefix = [setpriv, "--bounding-set", "-dac_override,-dac_read_search"]
    process = subprocess.run(
        [*prefix, sys.executable, "-c", CALLS, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [(code, text) for code, text in json.loads(process.stdout.splitlines()[-1])]


def test_every_reading_command_works(published: RunFolder, tmp_path: Path) -> None:
    path, scored = str(published.path), str(tmp_path / "scored")
    commands = [
        ["show", path],
        ["status", path],
        ["verify", path],
        ["compare", path, path],
        ["score", path, "--metric", "length", "-o", scored],
        ["compare", scored, scored],
    ]
    results = call_unprivileged(*commands)
    assert [code for code, _ in results] == [0] * len(commands), results
    assert "answer:    hello" in results[0][1]
    assert "2 of 2 rows" in results[1][1]
    assert "skipped  .batchgen: only the owner of the run may read it" in results[2][1]
    assert sorted(p.name for p in Path(scored).iterdir() if not p.name.startswith(".")) == [
        "metrics.parquet",
        "responses.parquet",
        "scores.parquet",
    ]


def test_another_run_reuses_its_answers(published: RunFolder, tmp_path: Path) -> None:
    job = [str(tmp_path / "job.yaml"), "-o", str(tmp_path / "own")]
    ((code, text),) = call_unprivileged(["run", *job, "--incremental-from", str(published.path)])
    assert (code, "reused 2 · generated 0" in text) == (0, True), text


def test_commands_that_write_into_it_end_with_a_resource_error(
    published: RunFolder, tmp_path: Path
) -> None:
    path, job = str(published.path), str(tmp_path / "job.yaml")
    results = call_unprivileged(
        ["score", path, "--metric", "length"],
        ["purge", path],
        ["plan", job],
    )
    assert [code for code, _ in results[:2]] == [5, 5], results
    assert "Write the scores elsewhere with --output FOLDER." in results[0][1]
    assert "`run` will reject it" in results[2][1]


def test_a_run_that_is_not_published_is_refused_by_its_cause(make_job: MakeJob) -> None:
    left = iter(range(1))
    rows = [{"q": "one"}, {"q": "two"}, {"q": "three"}]
    folder = run(load_job(make_job(rows)), stop=lambda: next(left, None) is None).folder
    folder.private.chmod(0)
    path = str(folder.path)
    results = call_unprivileged(["show", path], ["status", path], ["score", path, "-m", "length"])
    folder.private.chmod(0o700)
    for code, text in results:
        assert (code, "may not read its private folder" in text) == (2, True), text
