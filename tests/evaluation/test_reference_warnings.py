"""Metrics that score nothing, since no reference is named, are a warning before the first answer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.jobfile.load import load_job
from batchgen.run.preflight.input_check import check_input

MakeJob = Callable[..., Path]
ROWS = [{"q": "Why?", "gold": "a"}]


@pytest.mark.parametrize(
    ("evaluate", "warned"),
    [
        ({"metrics": ["exact", "length"]}, [0]),
        ({"metrics": ["length", {"type": "choice", "labels": ["a", "b"]}]}, [1]),
        ({"metrics": ["length", "refusal"]}, []),
        ({"metrics": ["exact"], "reference": "gold"}, []),
    ],
)
def test_a_metric_without_a_reference_is_a_warning(
    make_job: MakeJob, evaluate: dict[str, object], warned: list[int]
) -> None:
    found = check_input(load_job(make_job(ROWS, evaluate=evaluate))).warnings
    expected = [f"evaluate.metrics[{number}]: needs a reference" for number in warned]
    assert len(found) == len(expected)
    assert all(text in one for one, text in zip(found, expected, strict=True))
