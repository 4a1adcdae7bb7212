"""The tests of drift against scipy, and by counting all ways to deal the prompts."""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from batchgen.metrics.statistics.distributions import chi_square_p, kolmogorov_p
from batchgen.metrics.statistics.drift_tests import (
    EXACT_PROMPTS,
    PromptTexts,
    compare_duplicates,
    compare_numbers,
    compare_shares,
    duplicate_share,
    fisher_exact_p,
)
from batchgen.metrics.statistics.intervals import Floats

RANDOM = np.random.default_rng(19)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 30])
@pytest.mark.parametrize("value", [0.0, 1e-9, 0.5, 3.84, 40.0, 900.0])
def test_chi_square_equals_scipy(df: int, value: float) -> None:
    expected = scipy.stats.chi2.sf(value, df)
    assert chi_square_p(value, df) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("scaled", [0.1, 0.3, 0.8, 1.36, 2.5, 5.0])
def test_kolmogorov_equals_scipy(scaled: float) -> None:
    size = 1e12  # so large that the correction for small samples vanishes
    expected = scipy.stats.kstwobign.sf(scaled)
    assert kolmogorov_p(scaled / size**0.5, size) == pytest.approx(expected, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 4), (8, 8), (20, 7), (60, 60), (400, 150)])
@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_smirnov_without_ties_equals_scipy(sizes: tuple[int, int], shift: float) -> None:
    base, new = RANDOM.normal(size=sizes[0]), RANDOM.normal(shift, size=sizes[1])
    found = compare_numbers(base, new)
    expected = scipy.stats.ks_2samp(base, new, method="exact")
    assert found.distance == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)


def test_many_prompts_have_the_p_of_the_limit() -> None:
    base, new = RANDOM.normal(size=EXACT_PROMPTS), RANDOM.normal(0.03, size=EXACT_PROMPTS)
    found = compare_numbers(base, new)
    assert found.test == "Kolmogorov-Smirnov"
    expected = scipy.stats.ks_2samp(base, new, method="exact")
    assert found.p == pytest.approx(expected.pvalue, rel=0.02)


def _share_of_deals(
    base: Sequence[float],
    new: Sequence[float],
    distance: Callable[[Floats, Floats], float],
) -> float:
    """The share of all ways to deal the values whose distance is at least that of the samples."""
    pooled = np.array([*base, *new], np.float64)
    found = distance(np.array(base, np.float64), np.array(new, np.float64))
    deals = list(combinations(range(len(pooled)), len(base)))
    extreme = 0
    for chosen in deals:
        side = np.isin(np.arange(len(pooled)), chosen)
        extreme += distance(pooled[side], pooled[~side]) >= found - 1e-9
    return extreme / len(deals)


@pytest.mark.parametrize(
    ("base", "new"),
    [
        ([1, 1, 2, 3], [2, 2, 3, 3, 4]),
        ([5, 5, 5], [5, 5, 5, 5]),
        ([1, 2, 2, 2, 9], [2, 9, 9, 9]),
        ([1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2]),
    ],
)
def test_smirnov_with_ties_equals_a_count_of_all_deals(base: list[float], new: list[float]) -> None:
    def apart(one: Floats, other: Floats) -> float:
        return float(scipy.stats.ks_2samp(one, other, method="asymp").statistic)

    found = compare_numbers(np.array(base, np.float64), np.array(new, np.float64))
    assert found.p == pytest.approx(_share_of_deals(base, new, apart), rel=1e-9)
    assert found.p >= found.least * (1 - 1e-9)


@pytest.mark.parametrize(
    "table", [(3, 7, 9, 1), (0, 5, 5, 0), (12, 88, 30, 70), (0, 10, 0, 10), (1, 99_999, 12, 99_988)]
)
def test_fisher_equals_scipy(table: tuple[int, int, int, int]) -> None:
    a, b, c, d = table
    expected = scipy.stats.fisher_exact([[a, b], [c, d]]).pvalue
    assert fisher_exact_p(a, a + b, a + c, a + b + c + d) == pytest.approx(expected, rel=1e-6)


def _one_answer_each(counts: Sequence[int]) -> Floats:
    return np.repeat(np.eye(len(counts)), counts, axis=0)


@pytest.mark.parametrize(
    ("base", "new"), [((80, 15, 9), (60, 30, 12)), ((200, 50, 30, 20), (190, 60, 25, 35))]
)
def test_shares_equal_scipys_chi_square(base: tuple[int, ...], new: tuple[int, ...]) -> None:
    found = compare_shares(_one_answer_each(base), _one_answer_each(new))
    total = sum(base) + sum(new)
    expected = scipy.stats.chi2_contingency([base, new], correction=False)
    value = expected.statistic * (total - 1) / total
    assert found.test == "chi-square"
    assert found.p == pytest.approx(scipy.stats.chi2.sf(value, expected.dof), rel=1e-9)
    apart = np.abs(np.array(base) / sum(base) - np.array(new) / sum(new)).sum() / 2
    assert found.distance == pytest.approx(apart)


def test_two_categories_equal_scipys_fisher() -> None:
    found = compare_shares(_one_answer_each((97, 3)), _one_answer_each((80, 20)))
    assert found.p == pytest.approx(scipy.stats.fisher_exact([[97, 3], [80, 20]]).pvalue, rel=1e-6)
    assert found.distance == pytest.approx(0.17)


def test_rare_categories_equal_scipys_permutation_test() -> None:
    base, new = (20, 4, 0), (14, 4, 6)
    found = compare_shares(_one_answer_each(base), _one_answer_each(new))
    kinds = np.repeat([0, 1, 2], base), np.repeat([0, 1, 2], new)
    expected = scipy.stats.permutation_test(
        kinds,
        lambda one, other: (
            scipy.stats.chi2_contingency(
                [np.bincount(one, minlength=3), np.bincount(other, minlength=3)], correction=False
            ).statistic
        ),
        alternative="greater",
        n_resamples=999,
        rng=np.random.default_rng(3),
    )
    assert found.test == "permutation"
    assert found.p == pytest.approx(expected.pvalue, abs=0.02)


def _false_alarms(one_test: Callable[[int], float], repetitions: int = 300) -> float:
    return float(np.mean([one_test(seed) < 0.05 for seed in range(repetitions)]))


def test_several_answers_to_a_prompt_count_as_one() -> None:
    """Eight answers to each of 20 prompts: nearly always the same one. Counted singly, every second test is a false alarm."""

    def draw(random: np.random.Generator) -> Floats:
        usual = random.integers(0, 2, 20)
        answers = (random.random((20, 8)) < 0.05) ^ usual[:, None].astype(bool)
        share = answers.mean(axis=1)
        return np.column_stack([share, 1 - share])

    def singly(seed: int) -> float:
        random = np.random.default_rng(seed)
        table = [[8 * one[:, 0].sum(), 8 * one[:, 1].sum()] for one in (draw(random), draw(random))]
        return float(scipy.stats.chi2_contingency(table, correction=False).pvalue)

    def by_prompt(seed: int) -> float:
        random = np.random.default_rng(seed)
        return compare_shares(draw(random), draw(random)).p

    assert _false_alarms(singly) > 0.3
    assert _false_alarms(by_prompt) < 0.09


def _texts(values: Sequence[int]) -> PromptTexts:
    return PromptTexts(np.array(values, np.uint64), np.arange(len(values)))


def test_duplicates_equal_a_count_of_all_deals() -> None:
    base, new = [1, 2, 3, 4, 5], [6, 6, 6, 6, 7]

    def apart(one: Floats, other: Floats) -> float:
        return abs(len(np.unique(one)) / len(one) - len(np.unique(other)) / len(other))

    found = compare_duplicates(_texts(base), _texts(new))
    assert found.distance == pytest.approx(0.6)
    assert found.p == pytest.approx(_share_of_deals(base, new, apart), abs=0.05)


def test_duplicates_that_come_in_pairs_are_no_false_alarm() -> None:
    """Half of the texts come twice by chance: as single answers, twice as many tests as promised would find a drift."""

    def alarm(seed: int) -> float:
        random = np.random.default_rng(seed)
        one, other = (_texts(random.integers(0, 300, 100).tolist()) for _ in range(2))
        return compare_duplicates(one, other).p

    assert _false_alarms(alarm, 150) < 0.1


@pytest.mark.parametrize("size", [1, 2, 30])
def test_equal_samples_never_drift(size: int) -> None:
    numbers = RANDOM.integers(0, 5, size).astype(np.float64)
    shares = np.eye(4)[RANDOM.integers(0, 4, size)]
    texts = _texts(RANDOM.integers(0, 9, size).tolist())
    for found in (
        compare_numbers(numbers, RANDOM.permutation(numbers)),
        compare_shares(shares, RANDOM.permutation(shares)),
        compare_duplicates(texts, texts),
    ):
        assert (found.p, found.distance) == (1.0, 0.0)


@pytest.mark.parametrize(("n", "m", "least"), [(3, 3, 0.1), (1, 1, 1.0), (4, 2, 1 / 15)])
def test_the_least_p_is_that_of_complete_separation(n: int, m: int, least: float) -> None:
    found = compare_numbers(np.zeros(n), np.ones(m))
    assert found.least == pytest.approx(least)
    assert found.p == pytest.approx(least)
    assert found.distance == 1.0


def test_duplicate_share() -> None:
    assert duplicate_share(_texts([1, 1, 2, 2])) == 0.5
