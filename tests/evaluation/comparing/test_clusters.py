"""Comparison of runs whose rows are in clusters."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from batchgen.evaluation.comparing.compare import compare
from batchgen.jobfile.load import load_job
from batchgen.run.run import run

MakeJob = Callable[..., Path]


@pytest.mark.parametrize(
    ("passages", "clusters"),
    [
        pytest.param(["a", "a", "b", "b", "c", "c"], 3, id="named"),
        pytest.param(["a", None, "b", None, "b", None], 3, id="rows without a name are one"),
        pytest.param([None, "c", "b", "a", "d", "e"], 6, id="each row is one"),
    ],
)
def test_the_clusters_are_the_pairs_of_a_test(
    make_job: MakeJob, tmp_path: Path, passages: Sequence[str | None], clusters: int
) -> None:
    run_both(make_job, ["ask"] * 6, passages, cluster="passage")
    (found,) = compare(tmp_path / "base", tmp_path / "new").metrics
    assert found.difference.pairs == clusters
    assert found.difference.value == pytest.approx(-0.5)


def test_clusters_and_slices_by_a_field_of_the_answers(make_job: MakeJob, tmp_path: Path) -> None:
    answers = [f'{{"of":"{passage}"}}' for passage in "aabbcc"]
    schema = {"type": "object", "properties": {"of": {"type": "string"}}}
    run_both(
        make_job,
        answers,
        cluster="parsed.of",
        slices=["parsed.of"],
        decoding={"response_format": {"json_schema": schema}},
        output={"parse": True},
    )
    (found,) = compare(tmp_path / "base", tmp_path / "new").metrics
    assert found.difference.pairs == 3
    slices = [(one.slice, one.change.n, one.change.base) for one in found.slices]
    assert slices == [("parsed.of=a", 2, 1.0), ("parsed.of=b", 2, 0.5), ("parsed.of=c", 2, 1.0)]


def run_both(
    make_job: MakeJob,
    answers: Sequence[str],
    passages: Sequence[str | None] = ("",) * 6,
    *,
    decoding: Mapping[str, Any] | None = None,
    output: Mapping[str, Any] | None = None,
    **evaluate: object,
) -> None:
    """Two runs of six rows, `base` with five right answers and `new` with two; the engine repeats `answers`."""
    section = {"reference": "gold", "metrics": ["exact"], **evaluate}
    for name, right in (("base", [1, 1, 0, 1, 1, 1]), ("new", [1, 0, 0, 1, 0, 0])):
        rows = [
            {"id": f"r{n}", "q": q, "gold": q if right[n] else "other", "passage": passages[n]}
            for n, q in enumerate(answers)
        ]
        sections = {"evaluate": section, "output": {"path": name, **(output or {})}}
        run(load_job(make_job(rows, **sections, decoding=decoding or {})))
