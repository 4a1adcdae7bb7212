"""The column `choice_probabilities`: how likely the model finds each label of `decoding.response_format.choice`.

    [{label: "spam", probability: 0.9, logprob: -0.2}, {label: "ham", probability: 0.1, logprob: -2.4}]

`logprob` is natural, of the label's tokens after the prompt up to the first one with which no other label begins: the
product of their conditional probabilities under the model's unmodified distribution, without the part in which the answer
continues to a longer label. `probability` is its share of the sum over all labels of the row: how likely the answer is
this label if it begins as one of them. Null where every label is impossible.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

CHOICE_PROBABILITIES = "choice_probabilities"
"""Name of the column, without `output.prefix`."""
CHOICES = pa.list_(
    pa.struct([("label", pa.string()), ("probability", pa.float64()), ("logprob", pa.float64())])
)


def choice_cell(labels: Sequence[str], logprobs: Sequence[float]) -> list[dict[str, object]]:
    """The cell of a row, with the labels in their order."""
    best = max(logprobs)
    weights = [math.exp(one - best) if best > -math.inf else math.nan for one in logprobs]
    total = math.fsum(weights)
    return [
        {
            "label": label,
            "probability": None if math.isnan(weight) else weight / total,
            "logprob": logprob,
        }
        for label, weight, logprob in zip(labels, weights, logprobs, strict=True)
    ]


def choice_column(answers: Sequence[Sequence[tuple[str, float]] | None]) -> pa.Array:
    """The column of answers from labels and log-probabilities; null where these were not computed."""
    cells = [one and choice_cell(*zip(*one, strict=True)) for one in answers]
    return pa.array(cells, CHOICES)


def read_choices(
    cell: Sequence[Mapping[str, Any]] | None,
) -> Sequence[tuple[str, float]] | None:
    """The labels and log-probabilities in a cell of the column; inverse of `choice_column`."""
    return None if cell is None else tuple((one["label"], one["logprob"]) for one in cell)
