"""Runs of one job on several nights."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from batchgen.jobfile.load import load_job
from batchgen.run.run import run

MakeJob = Callable[..., Path]
Night = Callable[..., Path]

HOSTILE_NAMES = ["<img src=x onerror=window.hacked=1>", "a* [b](c) | @d", "\u202en3"]
"""Names of folders, in order: runs that started in one second are in the order of their names."""


@pytest.fixture
def night(make_job: MakeJob, tmp_path: Path) -> Night:
    """Run a job whose first `right` of 40 answers are right, into a folder below `runs`."""

    def ran(
        name: str,
        right: int,
        /,
        *,
        words: Sequence[str] = ("ask",),
        kinds: Sequence[str] = (),
        **sections: Any,
    ) -> Path:
        rows = [
            {"id": f"r{n}", "q": f"{words[n % len(words)]} {n}", "lang": "en" if n % 2 else "zh"}
            for n in range(40)
        ]
        rows = [row | {"gold": row["q"] if n < right else "other"} for n, row in enumerate(rows)]
        for n, row in enumerate(rows if kinds else ()):
            row["kind"] = kinds[n % len(kinds)]
        slices = ["lang", "kind"] if kinds else ["lang"]
        evaluate = {"reference": "gold", "metrics": ["exact", "length"], "slices": slices}
        sections["evaluate"] = evaluate | sections.get("evaluate", {})
        output = {"path": f"runs/{name}"} | sections.pop("output", {})
        run(load_job(make_job(rows, output=output, **sections)))
        return tmp_path / "runs" / name

    return ran
