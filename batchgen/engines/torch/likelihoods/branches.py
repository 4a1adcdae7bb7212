"""Collects log-probabilities of the continuations of one context from logits.

context  c c c | x x x     branch 0      logits after the context: the first token of every branch
               | y y       branch 1      logits after x: the second token of branch 0
               | z         branch 2
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from batchgen.decoding.sampling import first_argmax
from batchgen.decoding.upload import upload_together
from batchgen.engines.torch.completion_builder import NONFINITE
from batchgen.records import Continuation, Failure, Likelihood

_CHUNK_ROWS = 16
"""Rows of logits whose exponentials are in float64 at a time: some 20 MB for 150,000 tokens."""


@dataclass(eq=False, slots=True)
class Branch:
    """A continuation.

    Attributes:
        indices: of the `Continuation`s with these tokens.
        logprobs: of each token; NaN where not read yet.
        greedy: whether each token is the most likely one.
    """

    token_ids: tuple[int, ...]
    indices: list[int]
    logprobs: list[float] = field(init=False)
    greedy: list[bool] = field(init=False)
    nonfinite: bool = False

    def __post_init__(self) -> None:
        self.logprobs = [math.nan] * len(self.token_ids)
        self.greedy = [False] * len(self.token_ids)

    def likelihoods(self) -> Iterator[Likelihood]:
        if self.nonfinite:
            yield from self.failed(NONFINITE)
            return
        for index in self.indices:
            yield Likelihood(index, tuple(self.logprobs), all(self.greedy))

    def failed(self, failure: Failure) -> Iterator[Likelihood]:
        for index in self.indices:
            yield Likelihood(index, (), failure=failure)


def group_by_context(continuations: Iterable[Continuation]) -> dict[tuple[int, ...], list[Branch]]:
    """The continuations of each context, longest first; identical ones are merged."""
    contexts: dict[tuple[int, ...], dict[tuple[int, ...], Branch]] = {}
    for one in continuations:
        group = contexts.setdefault(tuple(one.context), {})
        tokens = tuple(one.token_ids)
        group.setdefault(tokens, Branch(tokens, [])).indices.append(one.index)
    return {
        context: sorted(group.values(), key=lambda branch: -len(branch.token_ids))
        for context, group in contexts.items()
    }


class ContextReader:
    """Records which logits contain which tokens' log-probabilities, then reads all of them."""

    def __init__(self) -> None:
        self._expected: list[tuple[Branch, int]] = []
        self._rows: list[int] = []
        self._next = 0

    def expect(self, branches: Sequence[Branch], position: int) -> None:
        """Use the next row of the logits for the tokens at `position` of these branches."""
        for branch in branches:
            self._expected.append((branch, position))
            self._rows.append(self._next)
        self._next += 1

    @torch.inference_mode()
    def read_logits(self, logits: Tensor) -> None:
        """Fill the branches from raw logits [rows, vocab], one row for each `expect`."""
        if not self._expected:
            return
        chunks = [_row_facts(chunk) for chunk in logits.split(_CHUNK_ROWS)]
        mass, best, finite = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        tokens = torch.tensor([branch.token_ids[at] for branch, at in self._expected])
        rows, tokens = upload_together([torch.tensor(self._rows), tokens], logits.device)
        logprobs = logits[rows, tokens].double() - mass[rows]
        greedy = best[rows] == tokens
        # One transfer.
        values = torch.stack([logprobs, greedy.double(), finite[rows].double()], dim=1).tolist()
        for (branch, at), (value, is_best, is_finite) in zip(self._expected, values, strict=True):
            branch.logprobs[at], branch.greedy[at] = value, bool(is_best)
            branch.nonfinite |= not is_finite


def _row_facts(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each row: log of the sum of exponentials, most likely token, and whether its logit is finite."""
    best = first_argmax(logits)
    highest = logits.gather(1, best[:, None])
    return _log_mass(logits, highest), best, highest[:, 0].isfinite()


def _log_mass(logits: Tensor, highest: Tensor) -> Tensor:
    """The log of the sum of exponentials, in float64; `highest`: of each row, [rows, 1].

    Each exponential is rounded to float32, which changes the log by less than 1e-7; in float64 they take 20 times as long.
    """
    width = torch.float64 if logits.dtype == torch.float64 else torch.float32
    top = highest.to(width)
    mass = (logits.to(width) - top).exp_().double().sum(-1)
    return mass.log() + top[:, 0].double()
