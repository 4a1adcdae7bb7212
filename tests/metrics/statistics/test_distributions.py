"""The distributions against scipy."""

import pytest
import scipy.stats

from batchgen.metrics.statistics.distributions import (
    normal_quantile,
    sign_test_p,
    t_quantile,
    t_test_p,
    z_test_p,
)

FREEDOMS = (1, 2, 3.5, 10, 100, 10_000, 1_000_000)


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_student_equals_scipy(freedom: float) -> None:
    t = scipy.stats.t(freedom)
    for distance in (0.0, 1e-9, 0.3, 1.0, -2.0, 5.0, 30.0):
        expected = 2 * t.sf(abs(distance))
        assert t_test_p(distance, freedom) == pytest.approx(expected, rel=1e-8, abs=1e-300)
    for probability in (0.6, 0.9, 0.975, 0.995, 0.9999):
        expected = t.ppf(probability)
        assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("distance", [0.0, 0.5, -1.96, 8.0])
def test_normal_equals_scipy(distance: float) -> None:
    expected = 2 * scipy.stats.norm.sf(abs(distance))
    assert z_test_p(distance) == pytest.approx(expected, rel=1e-12)
    assert normal_quantile(0.975) == pytest.approx(scipy.stats.norm.ppf(0.975), rel=1e-12)


@pytest.mark.parametrize("tosses", [1, 2, 5, 10, 1_001, 100_000])
def test_the_sign_test_equals_scipys_binomial(tosses: int) -> None:
    for heads in {0, tosses // 3, tosses // 2, tosses}:
        exact = scipy.stats.binomtest(heads, tosses).pvalue
        assert sign_test_p(heads, tosses) == pytest.approx(exact, rel=1e-9, abs=1e-300)


def test_no_trials_give_no_evidence() -> None:
    assert sign_test_p(0, 0) == 1.0
