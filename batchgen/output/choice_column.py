"""The column `choice_probabilities`: how likely the model finds each label of `decoding.response_format.choice`.

    [{label: "spam", probability: 0.9, logprob: -0.2}, {label: "ham", probability: 0.1, logprob: -2.4}]

`logprob` is natural, of the tokens of the label after the prompt: the product of their conditional probabilities under the
model's unmodified distribution, without the part in which the answer continues to a longer label. `probability` is its
share of the sum over all labels of the row; null where every label is impossible.
"""

import math
from collections.abc import Sequence

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
