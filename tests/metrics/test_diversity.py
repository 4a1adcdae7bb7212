"""Diversity of a set of answers."""

import numpy as np
import pytest

from batchgen.metrics.base import Answer, SetMetric
from batchgen.metrics.diversity import signature
from batchgen.metrics.statistics.intervals import PointEstimate
from tests.metrics.conftest import MakeMetrics


def estimate(metric: object, *texts: str | None) -> PointEstimate:
    set_metric: SetMetric = metric  # type: ignore[assignment] # the tests request set metrics
    return set_metric.compute((Answer(str(at), 0, text) for at, text in enumerate(texts)), 0.95)


def measure(metric: object, *texts: str | None) -> float | None:
    return estimate(metric, *texts).value


def test_distinct_counts_by_windows_of_one_size(make: MakeMetrics) -> None:
    one, two = make("distinct", window=10)
    same = "a " * 10
    other = "a b c d e f g h i j"
    assert measure(one, same) == pytest.approx(0.1)
    assert measure(one, other) == 1.0
    assert measure(one, same, other) == pytest.approx(0.55)
    assert measure(two, same) == pytest.approx(1 / 9)
    assert measure(one, same, "too short for another") == pytest.approx(0.1)
    assert measure(one, "too short") is None
    assert measure(one, None, "") is None


def test_the_error_of_distinct_is_its_spread_over_samples(make: MakeMetrics) -> None:
    (one,) = make("distinct", n=[1], window=50)
    chance = np.random.default_rng(3)
    found = [
        estimate(one, *(" ".join(map(str, chance.zipf(1.5, 40).clip(max=60))) for _ in range(60)))
        for _ in range(150)
    ]
    values = np.array([one.value for one in found], np.float64)
    errors = np.array([one.stderr for one in found], np.float64)
    assert {one.method for one in found} == {"t over windows"}
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.15)
    lows, highs = ([getattr(one, end) for one in found] for end in ("low", "high"))
    assert ((lows < values.mean()) & (values.mean() < highs)).mean() > 0.9


def test_a_missing_interval_has_a_reason(make: MakeMetrics) -> None:
    (one,) = make("distinct", n=[1], window=10)
    assert estimate(one, "a b c d e f g h i j k").method == "none: one window gives no spread"
    too_little = "none: answers too few or too short for a window of 10 tokens"
    assert estimate(one, "a").method == too_little
    assert estimate(make("distinct", n=[2], window=10)[0], *["a"] * 10).method == too_little
    for shares in make("duplicates"):
        found = estimate(shares, "a", "a")
        assert (found.value, found.low) == (0.5, None)
        assert found.method == "none: answers drawn again would be duplicates"


def test_distinct_does_not_depend_on_block_boundaries(make: MakeMetrics) -> None:
    (one,) = make("distinct", n=[1], window=10)
    assert measure(one, "a b c d e", "f g h i a", "今天天气很好我们去玩") == 0.9


def test_ngrams_do_not_cross_answers(make: MakeMetrics) -> None:
    (two,) = make("distinct", n=[2], window=10)
    assert measure(two, *["a b"] * 5) == pytest.approx(1 / 5)


def test_exact_duplicates_are_equal_after_normalization(make: MakeMetrics) -> None:
    exact, _ = make("duplicates")
    assert measure(exact, "Hello, World!", "hello world", "other", "", None) == pytest.approx(1 / 3)
    assert measure(exact, "你好，世界", "你好世界！") == 0.5
    assert measure(exact, "") is None


LONG = (
    "Once upon a time there lived a clockmaker in a village by the sea who never wound his own watch, "
    "because he believed that time should be free to walk wherever it pleased."
)


def test_near_duplicates_share_most_of_their_text(make: MakeMetrics) -> None:
    _, near = make("duplicates")
    edited = LONG.replace("never wound", "never once wound")
    other = "The recipe calls for two eggs, a cup of flour, and a pinch of salt; whisk well and bake for an hour."
    assert measure(near, LONG, edited, other) == pytest.approx(1 / 3)
    assert measure(near, LONG, other, LONG.upper(), edited) == 0.5
    assert measure(near, "hi", "ho", "hi") == pytest.approx(1 / 3)
    assert measure(near, "", None) is None


@pytest.mark.parametrize("changed", [0, 3, 10, 40])
def test_minima_estimate_the_jaccard_similarity(changed: int) -> None:
    generator = np.random.default_rng(changed)
    letters = generator.choice(list("abcdefgh"), 400)
    other = letters.copy()
    other[generator.choice(400, changed, replace=False)] = "z"
    left, right = "".join(letters), "".join(other)
    sets = [{text[at : at + 5] for at in range(len(text) - 4)} for text in (left, right)]
    jaccard = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    estimate = (signature(left) == signature(right)).mean()
    assert estimate == pytest.approx(jaccard, abs=0.15)
