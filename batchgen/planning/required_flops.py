"""How much arithmetic answers need: what an engine without any waste would compute.

    floating-point operations of   a token through the layers      2 x weights of its products
                                   a token that draws              2 x weights of the head
                                   a token looking at a key        4 x heads x width, summed over layers

Each distinct prompt token counts once, however many prompts begin with it; each new token once; identical greedy
requests once; no padding. Element-wise work is left out, as usual. Formula: Chowdhery et al. 2022 (PaLM), appendix B.

Plain numbers: knows nothing of models or tensors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchgen.planning.prefixes import common_length
from batchgen.records import Request


@dataclass(frozen=True, slots=True)
class AttentionFlops:
    """Layers whose tokens look equally far back.

    Attributes:
        pair: floating-point operations of one token looking at one key, summed over these layers.
        window: most keys that a token looks at, itself included; None for all before it.
    """

    pair: float
    window: int | None = None

    def operations(self, first: int, last: int) -> float:
        """Of the tokens at positions first..last-1 looking at all keys up to their own."""
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
        attention: of tokens looking at keys; empty for a model without attention.
    """

    token: float
    draw: float
    attention: tuple[AttentionFlops, ...]

    def operations(self, first: int, last: int, *, draws: int) -> float:
        """Of a row's tokens at positions first..last-1 through the layers, `draws` of which draw a token."""
        attended = sum(layers.operations(first, last) for layers in self.attention)
        return (last - first) * self.token + draws * self.draw + attended


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request and how many tokens its answer has, at least one."""

    request: Request
    new_tokens: int


@dataclass(frozen=True, slots=True)
class UsefulWork:
    """What answers needed.

    Attributes:
        tokens: that had to go through the layers; the last one of an answer never does.
        operations: floating-point operations.
    """

    tokens: int = 0
    operations: float = 0.0

    def __add__(self, other: "UsefulWork") -> "UsefulWork":
        return UsefulWork(self.tokens + other.tokens, self.operations + other.operations)


def measure_useful_work(answers: Iterable[AnsweredRequest], costs: ModelFlops) -> UsefulWork:
    """What these answers needed together.

    Beginnings are found by sorting: what a prompt shares with any other of them, it shares with its neighbour.
    """
    tokens, operations = 0, 0.0
    before: Sequence[int] = ()
    for answer in sorted(_distinct(answers), key=lambda one: list(one.request.token_ids)):
        prompt = answer.request.token_ids
        first, last = common_length(before, prompt), len(prompt) + answer.new_tokens - 1
        # The logits behind a prompt that was there before are known as well.
        draws = answer.new_tokens - (first == len(prompt))
        tokens += last - first
        operations += costs.operations(first, last, draws=draws)
        before = prompt
    return UsefulWork(tokens, operations)


def _distinct(answers: Iterable[AnsweredRequest]) -> list[AnsweredRequest]:
    """The answers less those of greedy requests that are identical to an earlier one."""
    found: dict[object, AnsweredRequest] = {}
    for answer in answers:
        request = answer.request
        key: object = (request.index, request.sample)
        if request.decoding.greedy:
            # By its words: `generation_kwargs` may hold lists, which have no hash.
            key = (tuple(request.token_ids), repr(request.decoding))
        found.setdefault(key, answer)
    return list(found.values())
