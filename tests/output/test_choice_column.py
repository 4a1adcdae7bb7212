"""The column `choice_probabilities`: shares of the labels."""

import math

import pyarrow as pa
import pytest

from batchgen.output.choice_column import CHOICES, choice_cell


@pytest.mark.parametrize(
    ("logprobs", "shares"),
    [
        ([math.log(0.2), math.log(0.6)], [0.25, 0.75]),
        ([-2000.0, -2000.0 + math.log(3)], [0.25, 0.75]),
        ([-1.0, -math.inf], [1.0, 0.0]),
        ([-math.inf, -math.inf], [None, None]),
        ([-3.0], [1.0]),
    ],
)
def test_shares_of_the_labels(logprobs: list[float], shares: list[float | None]) -> None:
    labels = ["a", "b"][: len(logprobs)]
    (cell,) = pa.array([choice_cell(labels, logprobs)], CHOICES).to_pylist()
    assert [one["label"] for one in cell] == labels
    assert [one["logprob"] for one in cell] == logprobs
    assert [one["probability"] for one in cell] == pytest.approx(shares, abs=1e-12)
