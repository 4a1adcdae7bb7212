"""Continuations of one context while their likelihoods come in, and the reader of the logits that say them.

    context  c c c | x x x     branch 0      logits behind the context: the first token of every branch
                   | y y       branch 1      logits behind x: the second token of branch 0
                   | z         branch 2

Knows nothing of how logits come about.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from batchgen.decoding.sampling import first_argmax
from batchgen.engines.torch.completion_builder import NONFINITE
from batchgen.records import Continuation, Failure, Likelihood

_CHUNK_ROWS = 16
"""Logits that are turned to float64 at a time: with 150,000 tokens some 20 MB."""


@dataclass(eq=False, slots=True)
class Branch:
    """A continuation, and all who ask for it.

    Attributes:
        indices: their keys.
        logprobs: of each token; NaN where not known yet.
        greedy: whether each token is the most likely one.
        broken: whether logits of it were not finite.
    """

    token_ids: tuple[int, ...]
    indices: list[int]
    logprobs: list[float] = field(init=False)
    greedy: list[bool] = field(init=False)
    broken: bool = False

    def __post_init__(self) -> None:
        """Nothing is known."""
        self.logprobs = [math.nan] * len(self.token_ids)
        self.greedy = [False] * len(self.token_ids)

    def likelihoods(self) -> Iterator[Likelihood]:
        """What everyone who asked is told, all logits being read."""
        if self.broken:
            yield from self.failed(NONFINITE)
            return
        for index in self.indices:
            yield Likelihood(index, tuple(self.logprobs), all(self.greedy))

    def failed(self, failure: Failure) -> Iterator[Likelihood]:
        """What everyone who asked is told when it cannot be known."""
        for index in self.indices:
            yield Likelihood(index, (), failure=failure)


def group_by_context(asked: Iterable[Continuation]) -> dict[tuple[int, ...], list[Branch]]:
    """The continuations of each context, the longest first; identical ones are one."""
    found: dict[tuple[int, ...], dict[tuple[int, ...], Branch]] = {}
    for one in asked:
        group = found.setdefault(tuple(one.context), {})
        tokens = tuple(one.token_ids)
        group.setdefault(tokens, Branch(tokens, [])).indices.append(one.index)
    return {
        context: sorted(group.values(), key=lambda branch: -len(branch.token_ids))
        for context, group in found.items()
    }


class ContextReader:
    """Says which tokens' likelihoods are in which logits, then looks at them all."""

    def __init__(self) -> None:
        """Nothing is wanted yet."""
        self._places: list[tuple[Branch, int]] = []
        self._rows: list[int] = []
        self._next = 0

    def read(self, wanted: Sequence[Branch], place: int) -> None:
        """The next row of the logits is that of the tokens at `place` of these branches."""
        for branch in wanted:
            self._places.append((branch, place))
            self._rows.append(self._next)
        self._next += 1

    @torch.inference_mode()
    def look(self, logits: Tensor) -> None:
        """Tell the branches: logits [rows, vocab], raw, one for each `read`."""
        if not self._places:
            return
        chunks = [_read(chunk) for chunk in logits.split(_CHUNK_ROWS)]
        mass, best, finite = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        rows = torch.tensor(self._rows, device=logits.device)
        tokens = torch.tensor(
            [branch.token_ids[place] for branch, place in self._places], device=logits.device
        )
        logprobs = (logits[rows, tokens].double() - mass[rows]).tolist()
        greedy = (best[rows] == tokens).tolist()
        whole = finite[rows].tolist()
        for at, (branch, place) in enumerate(self._places):
            branch.logprobs[place] = logprobs[at]
            branch.greedy[place] = greedy[at]
            branch.broken |= not whole[at]


def _read(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row: the log of the sum of exponentials, the most likely token, and whether that is a number."""
    best = first_argmax(logits)
    finite = logits.gather(1, best[:, None])[:, 0].isfinite()
    return logits.double().logsumexp(-1), best, finite
