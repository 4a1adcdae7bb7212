"""How long answers take: a linear model of prompt tokens, new tokens and steps, fitted to what was timed.

    seconds = a x prompt tokens  +  b x new tokens  +  c x steps

A step computes one token of every row in flight and reads all weights once, however few rows there are: c is why a few rows
are slow for their tokens. One timed run does not separate the three. They are therefore held near the ratios of typical
hardware, and leave them as far as several runs of different shape require.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

_STEP_COST = {"cpu": 16.0, "cuda": 300.0}
"""Tokens whose computation takes as long as reading the weights once: measured in float32 on two cores; of an H100 by its data sheet."""
_HOLD = 0.02
"""Weight of the ratios, in runs."""
_LEAST_SHARE = 0.1
"""A cost is not fitted below this share of what the ratios say."""


@dataclass(frozen=True, slots=True)
class AnswerWork:
    """What answers make an engine compute.

    Attributes:
        prompt_tokens: a shared prefix and a repeated prompt count once.
        steps: in which new tokens are computed.
    """

    prompt_tokens: int
    new_tokens: int
    steps: int


@dataclass(frozen=True, slots=True)
class TimedWork:
    """Work, and the seconds that it took."""

    work: AnswerWork
    seconds: float


def count_steps(answers: int, new_tokens: int, longest: int, rows_at_once: int) -> int:
    """The steps of so many answers, of which so many are computed at once, until the longest of the last ones ends."""
    at_once = max(1, rows_at_once)
    waves = math.ceil(answers / at_once) * longest
    return min(waves, math.ceil(new_tokens / at_once) + longest)


def predict_seconds(
    work: AnswerWork, timed: Sequence[TimedWork], device: Literal["cpu", "cuda"]
) -> float:
    """The seconds that the work takes, as predicted from work that was timed, at least one."""
    costs = _fitted_costs(timed, _STEP_COST[device])
    return float(_features(work) @ costs)


def _fitted_costs(timed: Sequence[TimedWork], step_cost: float) -> npt.NDArray[np.float64]:
    """a, b and c, in seconds. Errors count by their share of each run's time, so that a short run counts like a long one."""
    ratios = np.array([1.0, 1.0, step_cost])
    features = np.array([_features(one.work) / one.seconds for one in timed])
    predicted = features @ ratios
    typical = ratios * (predicted.sum() / (predicted @ predicted))
    scaled = features * typical  # unknowns are then factors near 1
    left = scaled.T @ scaled + _HOLD * np.eye(3)
    right = scaled.T @ np.ones(len(timed)) + _HOLD
    factors: npt.NDArray[np.float64] = np.linalg.solve(left, right)
    costs: npt.NDArray[np.float64] = typical * np.maximum(factors, _LEAST_SHARE)
    return costs


def _features(work: AnswerWork) -> npt.NDArray[np.float64]:
    return np.array([work.prompt_tokens, work.new_tokens, work.steps], dtype=np.float64)
