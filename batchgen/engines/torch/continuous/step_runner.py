"""Runs the steps that a scheduler asks for, and has their logits read; where memory ends, less runs together from then on.

    what did not fit                               what becomes of it
    several tokens, or one beside other rows       everyone begins again, with half the tokens and half the rows
    one token of a prefix, nobody beside it        the same; the second time, its rows go on without it
    one token of a row, nobody beside it           the same; the second time, if it has drawn none since, it is refused
    the first token of a row, nobody beside it     the same; when nothing is left to halve, the run ends

Where nothing is left to halve, the first time counts as the second. Memory may end in the forward or where its logits
are read; either way it is the step that did not fit. Knows nothing of what the logits are for.
"""

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
from batchgen.planning.sequences import Prefix, ScheduledSequence, Step, StepKind, split_step

Read = TypeVar("Read")


class StepRunner:
    """Computes steps on lanes and tells the scheduler.

    Attributes:
        counts: steps and tokens of each kind, and how often memory ran out.
    """

    def __init__(
        self, lanes: StepWorkers, store: KVStore, device: torch.device, scheduler: Scheduler
    ) -> None:
        """Compute what `scheduler` says on what `store` holds."""
        self._lanes = lanes
        self._store = store
        self._device = device
        self._scheduler = scheduler
        self._usual = replace(scheduler.limits)
        self._suspect: ScheduledSequence | Prefix | None = None
        self.counts = {
            **{f"{what}_{kind.value}": 0 for what in ("steps", "tokens") for kind in StepKind},
            "out_of_memory": 0,
        }

    def compute(self, step: Step, read: Callable[[Step, Tensor], list[Read]]) -> list[Read]:
        """Run a step; what was read in its logits. Nothing if there was not enough memory: everyone begins again.

        Args:
            step: what the scheduler says.
            read: is given the step, which its rows do not count yet, and its logits [drawn, vocab]. If it runs out of
                memory, the rows draw again.

        Raises:
            ResourceError: the first token of a row does not fit.
        """
        try:
            found = self._compute(step, read)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        else:
            self._scheduler.computed(step)
            if self._suspect in step.rows:
                self._suspect = None
            self.counts[f"steps_{step.kind.value}"] += 1
            self.counts[f"tokens_{step.kind.value}"] += step.tokens
            return found
        # Outside of the handler: the error holds the frames, and with them the tensors.
        self._shrink(step)
        return []

    def _compute(self, step: Step, read: Callable[[Step, Tensor], list[Read]]) -> list[Read]:
        parts = [
            build_step_batch(part, self._store.sizes.page_size, self._device)
            for part in split_step(step, self._lanes.count)
        ]
        return read(step, self._lanes.compute(parts, self._store))

    def _shrink(self, step: Step) -> None:
        """Half the tokens of a step, and half the rows, or whoever is alone goes: everyone begins again."""
        limits, usual = self._scheduler.limits, self._usual
        least = limits.rows == 1 and limits.step_tokens == 1
        alone = self._alone(step)
        if least and alone is None:
            raise ResourceError(
                "one token of one row does not fit in memory",
                hint="close other programs, or lower batching.memory_fraction",
            )
        self.counts["out_of_memory"] += 1
        # What was computed may be NaN, and nobody has looked at it yet.
        self._store.clear(self._scheduler.held)
        self._scheduler.preempt_all()
        if alone is not None and (least or alone is self._suspect):
            # It was this one's length, so the others may have all the room again.
            if isinstance(alone, Prefix):
                self._scheduler.unshare(alone)
            else:
                self._scheduler.refuse(alone)
            limits.rows, limits.step_tokens = usual.rows, usual.step_tokens
        else:
            limits.rows = max(1, limits.rows // 2)
            limits.step_tokens = max(1, limits.step_tokens // 2)
        self._suspect = alone
        release_memory(self._device)

    def _alone(self, step: Step) -> ScheduledSequence | Prefix | None:
        """Who is asked for one token with nobody beside it: a prefix, or a row of which earlier tokens did fit."""
        owner = step.segments[0].owner
        if step.tokens > 1:
            return None
        if isinstance(owner, Prefix):
            return owner if self._scheduler.active == 0 else None
        return owner if self._scheduler.active == 1 and owner.cached > 0 else None
