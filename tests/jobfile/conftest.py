"""Job files for the tests of this folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

JOB = """\
version: 1
name: demo
input: {path: data.csv}
prompt: {user: "{{ question }}"}
model: demo:smollm2-135m
output: {path: out/demo}
"""

Write = Callable[..., Path]


@pytest.fixture
def job_text() -> str:
    """The text of a small valid job."""
    return JOB


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file, by default the small job, with lines added at its end, and return its path."""

    def written(added: str = "", *, name: str = "job.yaml", text: str = JOB) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + added, "utf-8")
        return path

    return written
