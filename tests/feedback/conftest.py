"""Runs, and votes about their answers."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from batchgen.feedback.vote import Vote, parse_vote, response_sha
from batchgen.jobfile.load import load_job
from batchgen.output.published_run import PublishedRun
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder
from tests.feedback.test_vote import fields

MakeJob = Callable[..., Path]
MakeRun = Callable[..., PublishedRun]

ROWS = [
    {"id": f"r{n}", "q": f"question {n}", "lang": "en" if n % 2 else "zh", "grade": n % 5 + 1}
    for n in range(10)
]


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs that were made, by their settings: a test gets a copy."""
    return {"": tmp_path_factory.mktemp("runs")}


@pytest.fixture
def make_run(make_job: MakeJob, made_runs: dict[str, Path], tmp_path: Path) -> MakeRun:
    """Run rows with the echo engine: each answer repeats its prompt."""

    def made(
        name: str = "out", rows: Sequence[Mapping[str, Any]] = ROWS, **sections: Any
    ) -> PublishedRun:
        folder, key = tmp_path / name, json.dumps([list(rows), sections])
        if key not in made_runs:
            run(load_job(make_job(rows, output={"path": name}, **sections)))
            if "evaluate" in sections:  # may name folders of this test
                return PublishedRun(RunFolder(folder))
            made_runs[key] = made_runs[""] / str(len(made_runs))
            shutil.copytree(folder, made_runs[key])
        else:
            make_job(rows, output={"path": name}, **sections)
            shutil.copytree(made_runs[key], folder)
        return PublishedRun(RunFolder(folder))

    return made


class Voter:
    """Makes votes about the answers of a run, each a second after the last."""

    def __init__(self, run: PublishedRun) -> None:
        self._run = run
        self._count = 0

    def __call__(self, row: str, kind: str, *, sample: int = 0, **more: Any) -> Vote:
        self._count += 1
        (found,) = self._run.find([(row, sample)], ["response"])
        content = {
            **fields(kind, self._count),
            "vote_id": f"{abs(hash(self._run.manifest.run_id)) % 2**64:016x}{self._count:016x}",
            "run_id": self._run.manifest.run_id,
            "id": row,
            "sample": sample,
            "response_sha": response_sha(found["response"] if found else None),
            **more,
        }
        return parse_vote(json.dumps(content))

    def pair(self, row: str, choice: str, other: PublishedRun, **more: Any) -> Vote:
        sample = more.pop("other_sample", 0)
        (found,) = other.find([(row, sample)], ["response"])
        assert found is not None
        return self(
            row,
            "pair",
            choice=choice,
            other_run_id=other.manifest.run_id,
            other_sample=sample,
            other_response_sha=response_sha(found["response"]),
            shown_first=more.pop("shown_first", "run"),
            **more,
        )
