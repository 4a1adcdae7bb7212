"""Log-probabilities of labels as disjoint events, for labels some of which begin with another one.

billing    b illing       b          no other label begins with b: the rest is not scored
low risk   low risk       low risk   both tokens are scored, since another label begins with low
low        low            low        without the part that continues to risk
"""

import math
from collections.abc import Sequence
from itertools import pairwise


def deciding_tokens(token_ids: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Of each label, its tokens up to the first one with which no other label begins; all of them if another continues it.

    Once an answer has them, no other label is possible. Equal labels keep all their tokens.
    """
    order = sorted(range(len(token_ids)), key=lambda place: tuple(token_ids[place]))
    shared = [0] * len(order)
    for before, after in pairwise(order):
        common = _common_length(token_ids[before], token_ids[after])
        shared[before], shared[after] = max(shared[before], common), max(shared[after], common)
    return [tuple(ids[: count + 1]) for ids, count in zip(token_ids, shared, strict=True)]


def _common_length(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))


def disjoint_logprobs(logprobs: Sequence[float], token_ids: Sequence[Sequence[int]]) -> list[float]:
    """Log-probabilities of disjoint events: the answer begins with this label, and not with a longer one; or -inf.

    A tokenizer may split `10` into `1` and `0`. The probability of the tokens of `1` is then that of every text that
    begins with them, and the part that continues to `10` is subtracted.
    """
    return without_longer(logprobs, longer_labels(token_ids))


def without_longer(logprobs: Sequence[float], longer: Sequence[Sequence[int]]) -> list[float]:
    """Log-probabilities of labels without their part in longer ones, which `longer_labels` names."""
    return [
        _without(one, [logprobs[k] for k in continuing])
        for one, continuing in zip(logprobs, longer, strict=True)
    ]


def _without(logprob: float, parts: Sequence[float]) -> float:
    """The log of a probability minus those of its parts."""
    if not parts or logprob == -math.inf:
        return logprob
    left = 1 - math.fsum(math.exp(part - logprob) for part in parts)
    return logprob + math.log(left) if left > 0 else -math.inf


def longer_labels(token_ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """For each label, the labels that continue it, without those that continue one of these."""
    places: dict[tuple[int, ...], int] = {}
    for place, ids in enumerate(token_ids):
        places.setdefault(tuple(ids), place)
    continuing: dict[tuple[int, ...], list[int]] = {ids: [] for ids in places}
    above: list[tuple[int, ...]] = []
    for ids in sorted(places):  # a label comes right before all that continue it
        while above and ids[: len(above[-1])] != above[-1]:
            above.pop()
        if above:
            continuing[above[-1]].append(places[ids])
        above.append(ids)
    return [sorted(continuing[tuple(ids)]) for ids in token_ids]
