"""Log-likelihoods of an answer's texts, computed by a model before scoring: a column for each metric that needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from batchgen.metrics.base import Answer, Metric, RowMetric
from batchgen.section import Auto

LIKELIHOOD_PREFIX = "model:"
"""Precedes the name of a metric in the name of its column. Such columns are never written."""


@dataclass(frozen=True, slots=True)
class TextLikelihood:
    """How likely a model finds a text.

    Attributes:
        logprob: natural, of the text; may be -inf. 0 where there is a failure.
        greedy: whether greedy decoding would generate exactly this text.
        failure: code of the reason why it is not available; empty if it is.
        note: free text of the query's author; often empty.
    """

    logprob: float
    tokens: int
    greedy: bool
    failure: str
    note: str = ""


class ModelMetric(RowMetric, Protocol):
    """Scores answers by how likely the model finds texts after their prompts."""

    @property
    def stride(self) -> int | Auto | None:
        """How a text that is longer than the model's context is scored: see `TextAfterPrompt.stride`; None: not at all."""
        ...

    def continuations(self, answer: Answer) -> Sequence[str]:
        """The texts whose likelihoods `score` reads, in the same order, from the column `likelihood_column`."""
        ...


def likelihood_column(metric: str) -> str:
    """The name of the column with a metric's likelihoods."""
    return LIKELIHOOD_PREFIX + metric


def text_likelihoods(answer: Answer, metric: str) -> list[TextLikelihood]:
    """The likelihoods of an answer's texts; empty where the model was not run."""
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
    """Whether a metric needs likelihoods from a model."""
    return hasattr(metric, "continuations")
