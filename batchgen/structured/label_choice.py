"""Whether the answer of a `choice` is chosen by the probabilities of its labels.

    prompt ──tokens of each label──> log-probability of each label ──> the most likely label, or a sampled one

Token by token, an answer could begin with a likely token and then have to end in an unlikely label; and it could spell a
label with other tokens than the tokenizer.
"""

import json
from collections.abc import Sequence

from batchgen.decoding_settings import ResolvedDecoding

MOST_LABELS = 32
"""With more labels, an answer is generated token by token: each label costs the model its tokens after the first one."""


def labels_of(decoding: ResolvedDecoding) -> Sequence[str]:
    """The labels among which an answer is chosen by probability; none if it is generated token by token."""
    grammar = decoding.grammar
    if grammar is None or grammar.kind != "choice" or grammar.after:
        return ()
    if decoding.repetition_penalty != 1 or decoding.top_logprobs is not None:
        return ()
    labels = json.loads(grammar.text)
    return labels if len(labels) <= MOST_LABELS else ()
