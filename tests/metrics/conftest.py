"""Helpers that the metrics' tests share: a metric from its options, and its score of one response."""

from collections.abc import Callable
from typing import Any

import pytest

from batchgen.metrics.base import Answer, Metric, score_answer
from batchgen.metrics.registry import METRIC_TYPES, make_metrics
from batchgen.records import Score

MakeMetrics = Callable[..., tuple[Metric, ...]]
ScoreOf = Callable[..., Score]


@pytest.fixture
def make() -> MakeMetrics:
    """Metrics by type and options."""

    def made(kind: str, **options: Any) -> tuple[Metric, ...]:
        return make_metrics(METRIC_TYPES[kind].options.model_validate({"type": kind, **options}))

    return made


@pytest.fixture
def score(make: MakeMetrics) -> ScoreOf:
    """The score of one response by a row metric, of several the first: `score("number", "It is 18.", "18")`."""

    def scored(
        kind: str, response: str | None, *references: str, at: Any = None, **options: Any
    ) -> Score:
        metric, *_ = make(kind, **options)
        seen: dict[str, Any] = at or {}
        return score_answer(metric, Answer("a", 0, response, references, **seen))  # type: ignore[arg-type] # a row metric

    return scored
