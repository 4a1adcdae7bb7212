"""Runs the steps that a scheduler asks for; where memory ends, less runs together from then on.

Knows nothing of what the logits are for.
"""

import torch
from torch import Tensor

from batchgen.engines.torch.memory import out_of_memory, release_memory
from batchgen.engines.torch.slots.lanes import Lanes
from batchgen.engines.torch.slots.step import build
from batchgen.engines.torch.slots.store import Store
from batchgen.errors import ResourceError
from batchgen.planning.rows import Kind, Step
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
        self.counts = {
            **{f"{what}_{kind.value}": 0 for what in ("steps", "tokens") for kind in Kind},
            "out_of_memory": 0,
        }

    def compute(self, step: Step) -> Tensor | None:
        """Run a step: its logits [drawn, vocab]. None if there was not enough memory: everyone begins again.

        Raises:
            ResourceError: one token of one row does not fit.
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
            self._shrink()
            return None
        self._scheduler.computed(step)
        self.counts[f"steps_{step.kind.value}"] += 1
        self.counts[f"tokens_{step.kind.value}"] += step.tokens
        return logits

    def _shrink(self) -> None:
        """Half the tokens of a step, and half the rows: everyone begins again."""
        limits = self._scheduler.limits
        if limits.rows == 1 and limits.step_tokens == 1:
            raise ResourceError(
                "one token of one row does not fit in memory",
                hint="close other programs, or lower batching.memory_fraction",
            )
        limits.step_tokens = max(1, limits.step_tokens // 2)
        limits.rows = max(1, limits.rows // 2)
        self.counts["out_of_memory"] += 1
        # What was computed may be NaN, and nobody has looked at it yet.
        self._store.clear(self._scheduler.held)
        self._scheduler.preempt_all()
        release_memory(self._device)
