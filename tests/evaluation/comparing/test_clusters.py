"""Comparison of runs whose rows are in clusters."""

from collections.abc import Callable, Sequence
from pathlib import Path

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
    for name, right in (("base", [1, 1, 0, 1, 1, 1]), ("new", [1, 0, 0, 1, 0, 0])):
        rows = [
            {"id": f"r{n}", "q": "ask", "gold": "ask" if good else "other", "passage": passage}
            for n, (good, passage) in enumerate(zip(right, passages, strict=True))
        ]
        evaluate = {"reference": "gold", "metrics": ["exact"], "cluster": "passage"}
        run(load_job(make_job(rows, evaluate=evaluate, output={"path": name})))
    (found,) = compare(tmp_path / "base", tmp_path / "new").metrics
    assert found.difference.pairs == clusters
    assert found.difference.value == pytest.approx(-0.5)
