"""What a model told about the texts of an answer, before scoring began: a column for each metric that asked.

Knows nothing of models, nor of how they were asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from batchgen.metrics.base import Answer, Metric, RowMetric

LIKELIHOOD_PREFIX = "model:"
"""Before the name of a metric, the column with what it was told. Such columns are never written."""


@dataclass(frozen=True, slots=True)
class TextLikelihood:
    """How likely a model finds a text.

    Attributes:
        logprob: natural, of the whole text; may be -inf. 0 where there is a failure.
        tokens: of the text.
        greedy: whether the model would write just this.
        failure: code of why it is not known; empty if it is.
        note: what the asker wanted to be reminded of; often empty.
    """

    logprob: float
    tokens: int
    greedy: bool
    failure: str
    note: str = ""


class ModelMetric(RowMetric, Protocol):
    """Scores answers by how likely the model finds texts after their prompts."""

    def continuations(self, answer: Answer) -> Sequence[str]:
        """The texts that `score` wants to know about; what it was told, in the same order, is in the column `likelihood_column`."""
        ...


def likelihood_column(metric: str) -> str:
    """The column with what a metric was told."""
    return LIKELIHOOD_PREFIX + metric


def text_likelihoods(answer: Answer, metric: str) -> list[TextLikelihood]:
    """What a metric was told about an answer; nothing where nobody was asked."""
    cell = answer.fields.get(likelihood_column(metric))
    if not isinstance(cell, Sequence):
        return []
    return [_text_likelihood(one) for one in cell if isinstance(one, Mapping)]


def _text_likelihood(cell: Mapping[str, object]) -> TextLikelihood:
    logprob, tokens = cell["logprob"], cell["tokens"]
    return TextLikelihood(
        logprob=float(logprob) if isinstance(logprob, int | float) else 0.0,
        tokens=tokens if isinstance(tokens, int) else 0,
        greedy=cell["greedy"] is True,
        failure=str(cell["failure"] or ""),
        note=str(cell["note"] or ""),
    )


def is_model_metric(metric: Metric) -> TypeGuard[ModelMetric]:
    """Whether a metric has to be told something by a model before it can score."""
    return hasattr(metric, "continuations")
