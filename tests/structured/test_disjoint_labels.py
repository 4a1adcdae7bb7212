"""Labels that begin with another one: their probabilities are those of disjoint events."""

import math

import numpy as np
import pytest

from batchgen.structured.disjoint_labels import disjoint_logprobs, longer_labels


@pytest.mark.parametrize(
    ("chances", "tokens", "expected"),
    [
        pytest.param((0.3, 0.5), [(1,), (2,)], (0.3, 0.5), id="nothing shared"),
        pytest.param((0.6, 0.4), [(1,), (1, 0)], (0.2, 0.4), id="1 and 10, digit by digit"),
        pytest.param((0.6, 0.4), [(1,), (10,)], (0.6, 0.4), id="10 is a token"),
        pytest.param((0.6, 0.4, 0.1), [(1,), (1, 0), (1, 0, 0)], (0.2, 0.3, 0.1), id="a chain"),
        pytest.param((0.6, 0.2, 0.3), [(1,), (1, 0), (1, 1)], (0.1, 0.2, 0.3), id="two go on"),
        pytest.param((0.4, 0.4), [(1,), (1, 0)], (0.0, 0.4), id="always goes on"),
    ],
)
def test_labels_that_begin_longer_ones_exclude_these(
    chances: tuple[float, ...], tokens: list[tuple[int, ...]], expected: tuple[float, ...]
) -> None:
    left = disjoint_logprobs([math.log(one) for one in chances], tokens)
    assert np.exp(left) == pytest.approx(expected, abs=1e-12)


def test_unlikely_labels_do_not_vanish() -> None:
    assert disjoint_logprobs([-2000.0, -2001.0, -math.inf], [(1,), (1, 2), (3,)]) == pytest.approx(
        [-2000 + math.log(1 - math.exp(-1)), -2001, -math.inf]
    )


def test_equal_tokens_of_two_labels_continue_alike() -> None:
    assert longer_labels([(1,), (1, 2), (1,), (2,)]) == [[1], [], [1], []]
