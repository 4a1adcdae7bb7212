"""Paired comparisons, checked with scipy and by simulation, and the resulting verdicts."""

import numpy as np
import pytest
import scipy.stats

from batchgen.metrics.statistics.intervals import FRACTION, Confidence, Floats, ValueRange
from batchgen.metrics.statistics.paired_results import (
    NO_PAIRS,
    PairedResult,
    adjust_holm,
    decide_verdict,
)
from batchgen.metrics.statistics.paired_tests import MAX_SIGN_FLIPPED, PairedScores, compare_means

CONFIDENCE = Confidence()


def pairs(base: Floats, new: Floats, value_range: ValueRange | None = None) -> PairedScores:
    return PairedScores(base, new, np.arange(len(base)), value_range)


def matched(wins: int, losses: int, ties: int) -> PairedScores:
    base = np.array([0.0] * wins + [1.0] * losses + [1.0] * ties)
    new = np.array([1.0] * wins + [0.0] * losses + [1.0] * ties)
    return pairs(base, new, FRACTION)


@pytest.mark.parametrize(
    ("wins", "losses"), [(0, 0), (1, 0), (5, 1), (9, 30), (60, 61), (500, 400)]
)
def test_rates_are_compared_by_the_exact_mcnemar_test(wins: int, losses: int) -> None:
    found = compare_means(matched(wins, losses, ties=40), CONFIDENCE)
    discordant = wins + losses
    expected = scipy.stats.binomtest(losses, discordant).pvalue if discordant else 1.0
    assert found.p == pytest.approx(expected)
    assert found.value == pytest.approx((wins - losses) / (discordant + 40))
    assert found.test == "exact McNemar"


def test_the_interval_of_rates_is_that_of_agresti_and_min() -> None:
    """Hand-checked: 1 win, 6 losses, 13 ties; half a row is added to each of the four cells."""
    found = compare_means(matched(1, 6, 13), CONFIDENCE)
    spread = np.sqrt(8 - 25 / 22) / 22
    low, high = -5 / 22 - 1.959964 * spread, -5 / 22 + 1.959964 * spread
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6)


def test_intervals_of_rates_have_their_nominal_coverage() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2_000):
        kinds = rng.choice(3, p=[0.12, 0.07, 0.81], size=60)
        found = compare_means(matched(*(int((kinds == k).sum()) for k in range(3))), CONFIDENCE)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.05 <= found.high
    assert hits / 2_000 == pytest.approx(0.95, abs=0.02)


def test_rows_without_any_change_leave_the_interval_open() -> None:
    found = compare_means(matched(0, 0, 50), CONFIDENCE)
    assert (found.value, found.p) == (0.0, 1.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high


@pytest.mark.parametrize("count", [2, 5, 12])
def test_few_rows_enumerate_all_signs(count: int) -> None:
    rng = np.random.default_rng(count)
    base, new = rng.normal(size=count), rng.normal(size=count) + 0.5
    found = compare_means(pairs(base, new), CONFIDENCE)
    oracle = scipy.stats.permutation_test(
        (new, base), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert found.p == pytest.approx(oracle.pvalue)


def test_more_rows_sample_signs() -> None:
    rng = np.random.default_rng(1)
    base, new = rng.normal(size=200), rng.normal(size=200) + 0.2
    found = compare_means(pairs(base, new), CONFIDENCE)
    t = scipy.stats.ttest_rel(new, base)
    assert found.p == pytest.approx(t.pvalue, abs=0.01)
    interval = t.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_very_many_rows_use_the_normal_approximation() -> None:
    rng = np.random.default_rng(2)
    count = MAX_SIGN_FLIPPED + 1
    base = rng.normal(size=count)
    new = base + rng.normal(size=count) + 0.01
    found = compare_means(pairs(base, new), CONFIDENCE)
    assert found.test == "sign flips, normal"
    assert found.p == pytest.approx(scipy.stats.ttest_rel(new, base).pvalue, rel=0.02)


def test_answers_of_one_prompt_flip_together() -> None:
    rng = np.random.default_rng(3)
    shift = np.repeat(rng.normal(size=10), 8)
    base = rng.normal(size=80) * 0.01
    clusters = np.repeat(np.arange(10), 8)
    found = compare_means(PairedScores(base, base + shift, clusters), CONFIDENCE)
    single = compare_means(pairs(base, base + shift), CONFIDENCE)
    assert found.stderr == pytest.approx(scipy.stats.sem(shift[::8]))
    assert single.stderr is not None
    assert found.stderr is not None
    assert found.stderr > 2 * single.stderr


def test_chance_alone_is_called_significant_one_time_in_twenty() -> None:
    rng = np.random.default_rng(4)
    p_values = []
    for _ in range(600):
        base, new = rng.exponential(size=(2, 11))
        p_values.append(compare_means(pairs(base, new), CONFIDENCE).p or 0.0)
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.025)


def test_runs_without_common_rows_have_no_difference() -> None:
    nothing = np.empty(0)
    assert compare_means(pairs(nothing, nothing), CONFIDENCE) == NO_PAIRS


SCALE = ValueRange(1.0, 5.0)


@pytest.mark.parametrize(
    ("differences", "value_range", "low", "high"),
    [
        pytest.param([0.0] * 2, FRACTION, -1.0, 1.0, id="two equal rows"),
        pytest.param([0.0] * 30, FRACTION, -0.1, 0.1, id="3 / n"),
        pytest.param([0.0] * 300, FRACTION, -0.01, 0.01, id="more rows"),
        pytest.param([-0.1] * 60, FRACTION, -0.15, -0.05, id="the same loss everywhere"),
        pytest.param([0.1 + 0.2 - 0.3] * 60, FRACTION, -0.05, 0.05, id="rounding alone"),
        pytest.param([0.0] * 60, SCALE, -0.2, 0.2, id="of the range of a scale"),
        pytest.param([0.0] * 199 + [-0.01], FRACTION, -0.01505, 0.01495, id="one row differs a little"),
        pytest.param([0.5] * 40, None, None, None, id="no range"),
        pytest.param([0.0] * 40, None, None, None, id="equal runs without a range"),
    ],
)  # fmt: skip
def test_equal_differences_leave_the_interval_open(
    differences: list[float],
    value_range: ValueRange | None,
    low: float | None,
    high: float | None,
) -> None:
    base = np.linspace(0.6, 0.8, len(differences))
    found = compare_means(
        pairs(base, base + np.array(differences, np.float64), value_range), CONFIDENCE
    )
    for end, expected in ((found.low, low), (found.high, high)):
        assert end is expected is None or end == pytest.approx(expected, rel=1e-6)
    assert ("rule of three" if value_range else "no range") in found.method
    margin = decide_verdict(found, found.p, True, 0.001)
    assert margin != "equivalent"


def test_samples_of_equal_prompts_count_as_one_pair_each() -> None:
    base = np.tile([0.0, 1.0, 1.0], 20)
    clusters = np.repeat(np.arange(20), 3)
    found = compare_means(PairedScores(base, base, clusters, FRACTION), CONFIDENCE)
    assert (found.low, found.high, found.pairs) == pytest.approx((-0.15, 0.15, 20))


def test_other_levels_scale_the_rule_of_three() -> None:
    """0.99: the largest rate p of which 100 rows contain no case with a chance of 1 %: (1 - p)^100 = 0.01, about."""
    base = np.full(100, 0.5)
    found = compare_means(pairs(base, base, FRACTION), Confidence(level=0.99))
    assert found.high == pytest.approx(-np.log(0.01) / 100, rel=2e-3)


@pytest.mark.parametrize(("count", "most"), [(20, 0.0), (100, 0.065), (140, 0.1)])
def test_a_rare_large_loss_is_seldom_ruled_out(count: int, most: float) -> None:
    """Rows are equal but for a loss of the whole range in 3 % of them: how often is a loss of 3 % ruled out?

    With 100 rows only without any loss: 0.97^100 = 4.8 %. Without the rule of three it was 54 % of 20 rows.
    """
    rng = np.random.default_rng(12)
    passed = 0
    for _ in range(1_000):
        lost = rng.random(count) < 0.03
        base = np.where(lost, 1.0, 0.5)
        found = compare_means(pairs(base, np.where(lost, 0.0, 0.5), FRACTION), CONFIDENCE)
        assert found.low is not None
        passed += found.low >= -0.03
    assert passed / 1_000 <= most


@pytest.mark.parametrize(
    ("differences", "room", "needed"),
    [([0.0] * 10, 0.01, 300), ([0.0] * 10, 0.0, None), ([0.0] * 10, -0.1, None)],
)
def test_the_number_of_pairs_that_would_decide(
    differences: list[float], room: float, needed: int | None
) -> None:
    base = np.full(len(differences), 0.5)
    found = compare_means(pairs(base, base + np.array(differences), FRACTION), CONFIDENCE)
    assert found.pairs_needed(room) == needed


def test_values_too_large_for_arithmetic_have_no_result_that_is_not_a_number() -> None:
    base = np.array([1e308, -1e308, 1e308, 5.0])
    for new in (-base, base, base[::-1].copy(), np.full(4, 1e308)):
        found = compare_means(pairs(base, new), CONFIDENCE)
        numbers = [found.value, found.stderr, found.low, found.high, found.p]
        assert all(one is None or np.isfinite(one) for one in numbers)


def test_the_holm_correction_equals_the_textbook() -> None:
    """Holm (1979) by hand: 4 x 0.01, 3 x 0.02, 2 x 0.03, then the running maximum."""
    assert adjust_holm([0.03, 0.01, None, 0.04, 0.02]) == pytest.approx(
        [0.06, 0.04, None, 0.06, 0.06]
    )
    assert adjust_holm([]) == []


@pytest.mark.parametrize(
    ("value", "low", "high", "p", "higher_is_better", "margin", "expected"),
    [
        (0.1, 0.05, 0.15, 0.001, True, None, "better"),
        (-0.1, -0.15, -0.05, 0.001, True, None, "worse"),
        (-0.1, -0.15, -0.05, 0.001, False, None, "better"),
        (0.1, 0.05, 0.15, 0.001, None, None, "higher"),
        (-0.1, -0.15, -0.05, 0.001, None, None, "lower"),
        (0.1, -0.05, 0.25, 0.2, True, None, "inconclusive"),
        (0.01, -0.01, 0.03, 0.2, True, 0.05, "equivalent"),
        (0.03, 0.02, 0.04, 0.001, True, 0.05, "equivalent"),
        (0.03, 0.02, 0.06, 0.001, True, 0.05, "better"),
        (0.03, -0.06, 0.12, 0.3, True, 0.05, "inconclusive"),
        (0.5, None, None, None, True, None, "inconclusive"),
    ],
)
def test_verdicts(
    value: float,
    low: float | None,
    high: float | None,
    p: float | None,
    higher_is_better: bool | None,
    margin: float | None,
    expected: str,
) -> None:
    difference = PairedResult(value, 0.02, low, high, p, "")
    assert decide_verdict(difference, p, higher_is_better, margin) == expected


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    """Tested at 5 % (Student's t of 40 rows): power 0.8."""
    rng = np.random.default_rng(6)
    found = 0
    shift = PairedResult(0.0, 1 / np.sqrt(40), None, None, None, "").detectable
    assert shift is not None
    for _ in range(400):
        one = compare_means(pairs(np.zeros(40), rng.normal(shift, 1, 40)), CONFIDENCE)
        found += one.p is not None and one.p < 0.05
    assert found / 400 == pytest.approx(0.8, abs=0.07)
