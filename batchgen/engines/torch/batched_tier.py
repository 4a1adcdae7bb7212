"""Cuts a stream of requests into batches that fit, and retries with smaller ones after running out of memory.

requests ──cut──> batch ──run──> completions
                    │ out of memory
                    └──> its two halves, and a smaller limit for later batches
"""

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch

from batchgen.engines.torch.completion_builder import failed_completion
from batchgen.engines.torch.memory import out_of_memory, release_memory
from batchgen.engines.torch.tier import BatchRunner, TierOptions
from batchgen.planning.batches import BatchLimits, cut_batches
from batchgen.records import Completion, Failure, InFlight, Request

_BACK_OFF = 0.8
"""Limit of later batches, as a share of the tokens of a batch that did not fit."""


class BatchedTier:
    """A tier that answers one batch at a time."""

    def __init__(
        self, runner: BatchRunner, limits: BatchLimits, device: torch.device, options: TierOptions
    ) -> None:
        self._runner = runner
        self._limits = limits
        self._device = device
        self._options = options
        self._splits = 0
        self._batches = 0
        self._learned_tokens: int | None = None
        self._unfinished: dict[tuple[int, int], Request] = {}

    @property
    def name(self) -> str:
        return self._runner.name

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for batch in self._cut(iter(requests)):
            waiting = [batch]
            while waiting:
                yield from self._answer(waiting.pop(), waiting)
                if self._options.should_stop():
                    return

    def in_flight(self) -> InFlight:
        return InFlight(len(self._unfinished), self._runner.new_tokens)

    def facts(self) -> Mapping[str, object]:
        return {
            "max_rows": self._limits.rows,
            "max_tokens": self._learned_tokens or self._limits.tokens,
            "batches": self._batches,
            "splits": self._splits,
        }

    def _cut(self, source: Iterator[Request]) -> Iterator[list[Request]]:
        """All batches; after its end, the source may have more: see `Engine.generate`."""
        found = True
        while found:
            found = False
            for batch in cut_batches(source, self._limits):
                found = True
                yield batch

    def _answer(self, batch: list[Request], waiting: list[list[Request]]) -> Iterator[Completion]:
        if len(batch) > 1 and _tokens(batch) > (self._learned_tokens or self._limits.tokens):
            waiting.extend(_halves(batch))
            return
        self._batches += 1
        left = {(request.index, request.sample): request for request in batch}
        self._unfinished = left
        try:
            for completion in self._runner.run(batch):
                del left[completion.index, completion.sample]
                yield completion
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        else:
            return
        # After the except block: while the error exists, its traceback holds the tensors of the failed step.
        gc.collect()
        release_memory(self._device)
        if len(batch) == 1:
            tokens, limit = len(batch[0].token_ids), batch[0].decoding.max_new_tokens
            message = (
                f"{tokens:,} prompt tokens and max_new_tokens {limit:,} "
                f"do not fit in the memory of {self._device} even alone"
            )
            yield failed_completion(batch[0], Failure("out_of_memory", message))
            return
        self._splits += 1
        self._learned_tokens = int(_tokens(batch) * _BACK_OFF)
        waiting.extend(_halves(list(left.values())))


def _tokens(batch: Sequence[Request]) -> int:
    """As `cut_batches` counts: rows x (longest prompt + largest max_new_tokens)."""
    longest = max(len(request.token_ids) for request in batch)
    return len(batch) * (longest + max(request.decoding.max_new_tokens for request in batch))


def _halves(batch: list[Request]) -> list[list[Request]]:
    middle = (len(batch) + 1) // 2
    return [half for half in (batch[middle:], batch[:middle]) if half]
