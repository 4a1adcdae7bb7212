"""FLOPs that answers require: those of an engine without waste.

    floating-point operations of   a token through the layers      2 x weights of its products
                                   logits of a token               2 x weights of the head
                                   a token attending to a key      4 x heads x width, summed over layers

A prefix that several prompts share counts once, each new token once, identical greedy requests once, and padding not at
all. Elementwise operations are not included, as usual. Formula: Chowdhery et al. 2022 (PaLM), appendix B.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchgen.planning.prefixes import common_length
from batchgen.records import Request


@dataclass(frozen=True, slots=True)
class AttentionFlops:
    """Layers with the same attention window.

    Attributes:
        pair: FLOPs of one token attending to one key, summed over these layers.
        window: most keys that a token attends to, including its own; None for all.
    """

    pair: float
    window: int | None = None

    def operations(self, first: int, last: int) -> float:
        """FLOPs of the tokens at positions first..last-1 attending to all keys up to their own."""
        return self.pair * (self._pairs(last) - self._pairs(first))

    def _pairs(self, tokens: int) -> int:
        near = tokens if self.window is None else min(tokens, self.window)
        return near * (near + 1) // 2 + (tokens - near) * near


@dataclass(frozen=True, slots=True)
class ModelFlops:
    """FLOPs of a model.

    Attributes:
        token: of one token in all layers, without attention.
        draw: of the logits of one token.
        attention: by window; empty for a model without attention.
    """

    token: float
    draw: float
    attention: tuple[AttentionFlops, ...]

    def operations(self, first: int, last: int, *, draws: int) -> float:
        """FLOPs of a row's tokens at positions first..last-1, with the logits of `draws` of them."""
        attended = sum(layers.operations(first, last) for layers in self.attention)
        return (last - first) * self.token + draws * self.draw + attended


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request and the number of tokens of its answer, at least one."""

    request: Request
    new_tokens: int


@dataclass(frozen=True, slots=True)
class UsefulWork:
    """Computation that answers require.

    Attributes:
        tokens: to compute; without the last one of each answer.
        operations: floating-point operations.
    """

    tokens: int = 0
    operations: float = 0.0

    def __add__(self, other: "UsefulWork") -> "UsefulWork":
        return UsefulWork(self.tokens + other.tokens, self.operations + other.operations)


def measure_useful_work(answers: Iterable[AnsweredRequest], costs: ModelFlops) -> UsefulWork:
    """Computation that these answers require together.

    Prompts are sorted: the longest prefix that a prompt shares with an earlier one is that shared with its predecessor.
    """
    tokens, operations = 0, 0.0
    before: Sequence[int] = ()
    for answer in sorted(_distinct(answers), key=lambda one: list(one.request.token_ids)):
        prompt = answer.request.token_ids
        first, last = common_length(before, prompt), len(prompt) + answer.new_tokens - 1
        # The logits after an identical earlier prompt are known as well.
        draws = answer.new_tokens - (first == len(prompt))
        tokens += last - first
        operations += costs.operations(first, last, draws=draws)
        before = prompt
    return UsefulWork(tokens, operations)


def _distinct(answers: Iterable[AnsweredRequest]) -> list[AnsweredRequest]:
    """The answers without those of greedy requests that are identical to an earlier one."""
    found: dict[object, AnsweredRequest] = {}
    for answer in answers:
        request = answer.request
        key: object = (request.index, request.sample)
        if request.decoding.greedy:
            # As text: `generation_kwargs` may contain lists, which cannot be hashed.
            key = (tuple(request.token_ids), repr(request.decoding))
        found.setdefault(key, answer)
    return list(found.values())
