"""The arithmetic that answers need: what an engine without any waste would compute.

    floating-point operations of   a token through the layers      2 x weights of its products
                                   a token that draws              2 x weights of the head
                                   a token attending to a key      4 x heads x width, summed over layers

Each distinct prompt token counts once, however many prompts share it as a prefix; each new token once, also where the next
turn of a conversation has it in its prompt; identical greedy requests once; padding not at all. Element-wise operations are excluded, as usual. Formula: Chowdhery et al. 2022 (PaLM),
appendix B.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from batchgen.planning.prefixes import common_length
from batchgen.records import Request


@dataclass(frozen=True, slots=True)
class AttentionFlops:
    """Layers with the same attention window.

    Attributes:
        pair: flops of one token attending to one key, summed over these layers.
        window: most keys that a token attends to, itself included; None for all.
    """

    pair: float
    window: int | None = None

    def flops(self, first: int, last: int) -> float:
        """Of tokens at positions first..last-1 attending to all keys up to their own."""
        return self.pair * (self._pairs(last) - self._pairs(first))

    def _pairs(self, tokens: int) -> int:
        near = tokens if self.window is None else min(tokens, self.window)
        return near * (near + 1) // 2 + (tokens - near) * near


@dataclass(frozen=True, slots=True)
class ModelFlops:
    """Floating-point operations of a model.

    Attributes:
        token: of one token through all layers, without attention.
        draw: of the logits of one token.
    """

    token: float
    draw: float
    attention: tuple[AttentionFlops, ...]

    def flops(self, first: int, last: int, *, draws: int) -> float:
        """Of a row's tokens at positions first..last-1 through the layers; `draws` of them draw a token."""
        attended = sum(layers.flops(first, last) for layers in self.attention)
        return (last - first) * self.token + draws * self.draw + attended


class AnsweredRequest(NamedTuple):
    """A request and the number of tokens of its answer, at least one; `known`: prompt tokens that the turn before it had."""

    request: Request
    new_tokens: int
    known: int = 0


@dataclass(frozen=True, slots=True)
class UsefulWork:
    """Tokens that have to pass through the layers (the last token of an answer does not), and floating-point operations."""

    tokens: int = 0
    flops: float = 0.0

    def __add__(self, other: "UsefulWork") -> "UsefulWork":
        return UsefulWork(self.tokens + other.tokens, self.flops + other.flops)


def utilization_share(done: float, possible: float) -> float | None:
    """MFU: useful FLOPs as a share of those possible at the measured peak.

    None without a peak, and above 1: then the peak was measured too low, such as on a busy machine, and the share has no
    meaning.
    """
    share = done / possible if possible else None
    return None if share is None or share > 1 else share


def measure_useful_work(answers: Iterable[AnsweredRequest], costs: ModelFlops) -> UsefulWork:
    """The work that these answers need together."""
    work = UsefulWork()
    before: Sequence[int] = ()
    # In sorted order, the longest prefix that a prompt shares with any earlier one is shared with its neighbour.
    in_order = sorted(_distinct(answers), key=lambda one: list(one.request.token_ids))
    for request, new_tokens, known in in_order:
        prompt = request.token_ids
        first = max(known, common_length(before, prompt))
        last = len(prompt) + new_tokens - 1
        # A repeated prompt needs no new logits for its first token.
        draws = new_tokens - (first == len(prompt))
        work += UsefulWork(last - first, costs.flops(first, last, draws=draws))
        before = prompt
    return work


def _distinct(answers: Iterable[AnsweredRequest]) -> list[AnsweredRequest]:
    """The answers, without those of greedy requests identical to an earlier one."""
    distinct: dict[object, AnsweredRequest] = {}
    for answer in answers:
        request = answer.request
        key: object = (request.index, request.sample)
        if request.decoding.greedy:
            # As text: `generation_kwargs` may hold lists, which are not hashable.
            key = (tuple(request.token_ids), repr(request.decoding))
        distinct.setdefault(key, answer)
    return list(distinct.values())
