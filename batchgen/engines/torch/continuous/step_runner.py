"""Runs the steps of a scheduler; after running out of memory, fewer rows and tokens run together.

    what did not fit                        consequence
    several tokens, or several rows         all rows restart, with half the tokens and half the rows
    one token of a prefix, no other row     the same; the second time, its rows continue without the prefix
    one token of a row, no other row        the same; the second time without a token in between, the row fails
    the first token of a row, no other row  the same; when the limits cannot be halved, the run ends

When the limits cannot be halved, the first time counts as the second. Memory may run out in the forward or while its
logits are read; both count as the step.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.kv_store import KVStore
from batchgen.engines.torch.continuous.step import build_step_batch
from batchgen.engines.torch.continuous.workers import StepWorkers
from batchgen.engines.torch.memory import out_of_memory, release_memory
from batchgen.errors import ResourceError
from batchgen.planning.scheduler import Scheduler
from batchgen.planning.sequences import Prefix, ScheduledSequence, Step, StepKind

Read = TypeVar("Read")


class StepRunner:
    """Computes steps and updates the scheduler; `counts` steps, tokens and failures."""

    def __init__(
        self, workers: StepWorkers, store: KVStore, device: torch.device, scheduler: Scheduler
    ) -> None:
        self._workers = workers
        self._store = store
        self._device = device
        self._scheduler = scheduler
        self._initial_limits = replace(scheduler.limits)
        self._suspect: ScheduledSequence | Prefix | None = None
        self.counts = {
            **{f"{what}_{kind.value}": 0 for what in ("steps", "tokens") for kind in StepKind},
            "out_of_memory": 0,
        }

    def compute(self, step: Step, read: Callable[[Step, Tensor], list[Read]]) -> list[Read]:
        """Run a step and return the results of `read`; empty if memory ran out, after which all rows restart.

        `read` is called with the step, before its tokens count as cached, and its logits [drawn, vocab]. If it runs out of
        memory, the rows sample again. Raises ResourceError if the first token of a row does not fit.
        """
        try:
            results = self._compute(step, read)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        else:
            self._scheduler.mark_computed(step)
            if self._suspect in step.rows:
                self._suspect = None
            self.counts[f"steps_{step.kind.value}"] += 1
            self.counts[f"tokens_{step.kind.value}"] += step.tokens
            return results
        # Outside of the handler: the error references the frames, and with them the tensors.
        self._shrink(step)
        return []

    def _compute(self, step: Step, read: Callable[[Step, Tensor], list[Read]]) -> list[Read]:
        workers, sizes = self._workers, self._store.sizes
        began = time.perf_counter()
        parts = [
            build_step_batch(part, sizes, self._device) for part in workers.splitter.split(step)
        ]
        logits = workers.compute(parts, self._store)
        workers.splitter.add_time(step, len(parts), time.perf_counter() - began)
        return read(step, logits)

    def _shrink(self, step: Step) -> None:
        """Halve the limits, or remove the only row or prefix; all rows restart."""
        limits, initial = self._scheduler.limits, self._initial_limits
        least = limits.rows == 1 and limits.step_tokens == 1
        only = self._only_owner(step)
        if least and only is None:
            raise ResourceError(
                "one token of one row does not fit in memory",
                hint="Close other programs, or lower batching.memory_fraction.",
            )
        self.counts["out_of_memory"] += 1
        # Computed values may be NaN and are not checked yet.
        self._store.clear(self._scheduler.held_pages)
        self._scheduler.preempt_all()
        if only is not None and (least or only is self._suspect):
            # Its length was the cause: the limits of the others are restored.
            if isinstance(only, Prefix):
                self._scheduler.drop_prefix(only)
            else:
                self._scheduler.reject(only)
            limits.rows, limits.step_tokens = initial.rows, initial.step_tokens
        else:
            limits.rows = max(1, limits.rows // 2)
            limits.step_tokens = max(1, limits.step_tokens // 2)
        self._suspect = only
        release_memory(self._device)

    def _only_owner(self, step: Step) -> ScheduledSequence | Prefix | None:
        """The only active prefix or row, if the step has one token; of rows, one whose earlier tokens did fit."""
        owner = step.segments[0].owner
        if step.tokens > 1:
            return None
        if isinstance(owner, Prefix):
            return owner if self._scheduler.active == 0 else None
        return owner if self._scheduler.active == 1 and owner.cached > 0 else None
