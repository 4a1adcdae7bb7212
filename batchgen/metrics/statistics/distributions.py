"""The distributions that intervals and tests need: normal, Student's t, chi-square, Kolmogorov's, and the fair coin.

Plain numpy and standard library; the tests check them against scipy.
"""

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

_NORMAL = NormalDist()
_TINY = 1e-300
_MOST_TERMS = 20_000


def normal_quantile(probability: float) -> float:
    """The quantile of the standard normal distribution."""
    return _NORMAL.inv_cdf(probability)


def z_test_p(z: float) -> float:
    """Two-sided p: the probability that a standard normal variable is at least as far from 0 as `z`."""
    return math.erfc(abs(z) / math.sqrt(2))


def t_test_p(t: float, df: float) -> float:
    """Two-sided p: the probability that Student's t with `df` > 0 degrees of freedom is at least as far from 0 as `t`."""
    # DLMF 8.17: the tail is an incomplete beta function of df / (df + t^2).
    return _incomplete_beta(df / (df + t * t), df / 2, 0.5)


@lru_cache(maxsize=1024)
def t_quantile(probability: float, df: float) -> float:
    """The quantile of Student's t for 0.5 < probability < 1 and `df` > 0 degrees of freedom."""
    tail = 2 * (1 - probability)
    low, high = 0.0, 1.0
    while t_test_p(high, df) > tail:
        low, high = high, 2 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if t_test_p(middle, df) > tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def chi_square_p(value: float, df: int) -> float:
    """The probability that chi-square with `df` >= 1 degrees of freedom is at least `value`."""
    # DLMF 8.8.2: from df to df + 2 the tail grows by (x/2)^(df/2) e^(-x/2) / gamma(df/2 + 1).
    half = value / 2
    if half <= 0:
        return 1.0
    odd = df % 2
    tail = math.erfc(math.sqrt(half)) if odd else math.exp(-half)
    for step in range(odd or 2, df, 2):
        tail += math.exp(step / 2 * math.log(half) - half - math.lgamma(step / 2 + 1))
    return min(1.0, tail)


def kolmogorov_p(distance: float, size: float) -> float:
    """The probability of a distance at least as large in the test of Kolmogorov and Smirnov; of two samples, size is n m / (n + m)."""
    root = math.sqrt(size)
    scaled = distance * (root + 0.12 + 0.11 / root)  # Stephens (1970)
    if scaled < 0.2:
        return 1.0
    terms = [math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101)]
    return min(1.0, max(0.0, 2 * (sum(terms[::2]) - sum(terms[1::2]))))


def sign_test_p(heads: int, tosses: int) -> float:
    """Exact two-sided p of a fair coin; 1.0 without a toss."""
    fewer = min(heads, tosses - heads)
    return min(1.0, 2 * float(_coin_probabilities(fewer, tosses).sum()))


def _coin_probabilities(most: int, tosses: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Probabilities of 0 to `most` heads: float64 [most + 1]."""
    heads = np.arange(most, dtype=np.float64)
    steps = np.log((tosses - heads) / (heads + 1))
    logs = np.concatenate([[0.0], np.cumsum(steps)]) - tosses * math.log(2)
    probabilities: np.ndarray[tuple[int], np.dtype[np.float64]] = np.exp(logs)
    return probabilities


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return front / a / _beta_fraction(x, a, b)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of DLMF 8.17.22, by Lentz's method as Thompson and Barnett (1986) changed it."""
    value, c, d = 1.0, 1.0, 0.0
    for term in range(1, _MOST_TERMS):
        step, odd = divmod(term, 2)
        if odd:
            factor = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        else:
            factor = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        d = 1.0 / _away_from_zero(1.0 + factor * d)
        c = _away_from_zero(1.0 + factor / c)
        value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
