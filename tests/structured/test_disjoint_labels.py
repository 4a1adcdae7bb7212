"""Labels that begin with another one: their probabilities are those of disjoint events."""

import math

import numpy as np
import pytest

from batchgen.structured.disjoint_labels import (
    deciding_tokens,
    disjoint_logprobs,
    longer_labels,
)


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


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        pytest.param([(1, 2), (3, 4, 5), (6,)], [(1,), (3,), (6,)], id="nothing shared"),
        pytest.param([(1, 2, 3), (1, 2, 4), (1, 5, 6)], [(1, 2, 3), (1, 2, 4), (1, 5)], id="tree"),
        pytest.param([(1,), (1, 0, 7, 8)], [(1,), (1, 0)], id="one continues another"),
        pytest.param([(1, 0, 0), (1,), (1, 0)], [(1, 0, 0), (1,), (1, 0)], id="a chain"),
        pytest.param([(1, 2, 3)], [(1,)], id="one label"),
    ],
)
def test_the_deciding_tokens_begin_no_other_label(
    tokens: list[tuple[int, ...]], expected: list[tuple[int, ...]]
) -> None:
    found = deciding_tokens(tokens)
    assert found == expected
    for place, (decided, whole) in enumerate(zip(found, tokens, strict=True)):
        others = [one for at, one in enumerate(tokens) if at != place]
        if decided != whole:
            assert not any(one[: len(decided)] == decided for one in others)
        if len(decided) > 1:
            assert any(one[: len(decided) - 1] == decided[:-1] for one in others)


def test_unlikely_labels_do_not_vanish() -> None:
    assert disjoint_logprobs([-2000.0, -2001.0, -math.inf], [(1,), (1, 2), (3,)]) == pytest.approx(
        [-2000 + math.log(1 - math.exp(-1)), -2001, -math.inf]
    )


def test_equal_tokens_of_two_labels_continue_alike() -> None:
    assert longer_labels([(1,), (1, 2), (1,), (2,)]) == [[1], [], [1], []]
