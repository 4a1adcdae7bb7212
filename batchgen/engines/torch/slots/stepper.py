"""Runs the steps that a scheduler asks for; where memory ends, less runs together from then on.

Knows nothing of what the logits are for.
"""

from dataclasses import replace

import torch
from torch import Tensor

from batchgen.engines.torch.memory import out_of_memory, release_memory
from batchgen.engines.torch.slots.lanes import Lanes
from batchgen.engines.torch.slots.step import build
from batchgen.engines.torch.slots.store import Store
from batchgen.errors import ResourceError
from batchgen.planning.rows import Kind, Row, Step
from batchgen.planning.scheduler import Scheduler
from batchgen.planning.split import split


class Stepper:
    """Computes steps on lanes and tells the scheduler.

    Attributes:
        counts: steps and tokens of each kind, and how often memory ran out.
    """

    def __init__(
        self, lanes: Lanes, store: Store, device: torch.device, scheduler: Scheduler
    ) -> None:
        """Compute what `scheduler` says on what `store` holds."""
        self._lanes = lanes
        self._store = store
        self._device = device
        self._scheduler = scheduler
        self._usual = replace(scheduler.limits)
        self._suspect: Row | None = None
        self.counts = {
            **{f"{what}_{kind.value}": 0 for what in ("steps", "tokens") for kind in Kind},
            "out_of_memory": 0,
        }

    def compute(self, step: Step) -> Tensor | None:
        """Run a step: its logits [drawn, vocab]. None if there was not enough memory: everyone begins again.

        Raises:
            ResourceError: the first token of a row does not fit.
        """
        try:
            parts = [
                build(part, self._store.sizes.page_size, self._device)
                for part in split(step, self._lanes.count)
            ]
            logits = self._lanes.compute(parts, self._store)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            logits = None
        # Outside of the handler: the error holds the frames, and with them the tensors.
        if logits is None:
            self._shrink(step)
            return None
        self._scheduler.computed(step)
        self.counts[f"steps_{step.kind.value}"] += 1
        self.counts[f"tokens_{step.kind.value}"] += step.tokens
        return logits

    def _shrink(self, step: Step) -> None:
        """Half the tokens of a step, and half the rows: everyone begins again. A row that is alone is tried once more, then refused."""
        limits, usual = self._scheduler.limits, self._usual
        least = limits.rows == 1 and limits.step_tokens == 1
        row = self._alone(step)
        if least and row is None:
            raise ResourceError(
                "one token of one row does not fit in memory",
                hint="close other programs, or lower batching.memory_fraction",
            )
        self.counts["out_of_memory"] += 1
        # What was computed may be NaN, and nobody has looked at it yet.
        self._store.clear(self._scheduler.held)
        self._scheduler.preempt_all()
        if row is not None and (least or row is self._suspect):
            # It was this row's length, so the others may have all the room again.
            self._scheduler.refuse(row)
            limits.rows, limits.step_tokens = usual.rows, usual.step_tokens
        else:
            limits.rows = max(1, limits.rows // 2)
            limits.step_tokens = max(1, limits.step_tokens // 2)
        self._suspect = row
        release_memory(self._device)

    def _alone(self, step: Step) -> Row | None:
        """The row that is asked for one token, with nobody beside it, and of which earlier tokens did fit."""
        owner = step.segments[0].owner
        if step.tokens > 1 or self._scheduler.active > 1 or not isinstance(owner, Row):
            return None
        return owner if owner.cached > 0 else None
