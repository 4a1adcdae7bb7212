"""Whether the answer of a `choice` is chosen by the probabilities of its labels.

    prompt ──deciding tokens of each label──> log-probability of each label ──> the most likely label, or a sampled one

A label counts by its tokens, as the tokenizer writes it, up to the first one with which no other label begins: as when the
answer is generated, the rest then follows. Most lists of labels differ in their first tokens, so that an answer costs the
computation of the prompt. Of labels that share tokens, the whole shared part counts, so that no answer has to end in an
unlikely label because it began with a likely token.

Against whole labels, by the demo model on questions with known kinds: 22 instead of 24 of 80 right, 10 instead of 11 of 80, and
as many of 240; up to 30 % of the answers differ. So few rows of so small a model show no difference in quality.
"""

import json
from collections.abc import Sequence

from batchgen.decoding_settings import ResolvedDecoding

MOST_LABELS = 32
"""With more labels, an answer is generated token by token: labels that share tokens cost the model these one by one."""


def labels_of(decoding: ResolvedDecoding) -> Sequence[str]:
    """The labels among which an answer is chosen by probability; none if it is generated token by token."""
    grammar = decoding.grammar
    if grammar is None or grammar.kind != "choice" or grammar.after:
        return ()
    if decoding.repetition_penalty != 1 or decoding.top_logprobs is not None:
        return ()
    labels = json.loads(grammar.text)
    return labels if len(labels) <= MOST_LABELS else ()
