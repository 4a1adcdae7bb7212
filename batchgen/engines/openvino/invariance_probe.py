"""Measures whether an answer depends on other rows in flight."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchgen.engines.openvino.invariance_record import InvarianceRecord

_LENGTHS = (3, 17, 40, 8)
"""Tokens of the prompts: within a block of the cache, and more than one."""
_NEW_TOKENS = 4


@dataclass(frozen=True, slots=True)
class ProbedAnswer:
    """An answer with the log-probability of each token."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


Answer = Callable[[Sequence[Sequence[int]], int], Sequence[ProbedAnswer]]
"""Answers prompts together, greedily, with so many new tokens each."""


def measure_invariance(answer: Answer, vocab_size: int) -> InvarianceRecord:
    """Compare the answers of prompts alone with those of the same prompts together, bit by bit."""
    most = min(vocab_size, 50_000)
    prompts = [
        [(7 * position + 31 * number + 1) % most for position in range(length)]
        for number, length in enumerate(_LENGTHS)
    ]
    together = answer(prompts, _NEW_TOKENS)
    alone = [answer([prompt], _NEW_TOKENS)[0] for prompt in prompts]
    compared = f"{len(prompts)} prompts alone and together, {_NEW_TOKENS} new tokens each"
    if [one.token_ids for one in alone] != [one.token_ids for one in together]:
        return InvarianceRecord(
            invariant=False, reason=f"other rows in flight can change tokens ({compared})"
        )
    largest = max(
        abs(first - second)
        for one, other in zip(alone, together, strict=True)
        for first, second in zip(one.logprobs, other.logprobs, strict=True)
    )
    if largest > 0:
        return InvarianceRecord(
            invariant=False,
            reason=f"other rows in flight change log-probabilities by up to {largest:.1g} ({compared})",
        )
    return InvarianceRecord(invariant=True, reason=f"bit-identical: {compared}")
