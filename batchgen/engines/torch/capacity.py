"""How much runs together on a device: `run` takes it, `plan` shows it, by the same functions.

workers    processes that compute side by side
slots      pages and rows of continuous batching
fits       rows and tokens of a padded batch
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from batchgen.job.spec import Batching
from batchgen.planning.budget import Budget, Device, ModelMemory, compute_budget, plannable_bytes
from batchgen.planning.slot_plan import SlotPlan, Workers, choose_workers, plan_slots
from batchgen.section import Auto

PADDED = Workers(1, "padded batches are computed by one process")
"""Of tiers without slots, on one device."""
_DEVICES: Mapping[str, Device] = {"cpu": "cpu", "cuda": "cuda"}


@dataclass(frozen=True, slots=True)
class ContinuousCapacity:
    """What continuous batching takes."""

    plan: SlotPlan
    workers: Workers


def packable_bytes(free_bytes: int) -> int:
    """Of the bytes that are free beside the weights, those that a packed copy of them may take."""
    return free_bytes // 2


def choose_torch_workers(asked: int | Auto, device: torch.device) -> Workers:
    """How many processes compute side by side, and why: lanes of one engine on a CPU, or an engine a GPU.

    Raises:
        UsageError: more than there are GPUs.
    """
    there = usable_gpus(device, torch.cuda.device_count())
    return choose_workers(asked, threads=torch.get_num_threads(), gpus=there)


def usable_gpus(device: torch.device, there: int) -> list[str]:
    """The GPUs that a model may be computed on, out of so many: all, unless a certain one is asked for."""
    if device.type != "cuda":
        return []
    return [f"cuda:{n}" for n in range(there)] if str(device) == "cuda" else [str(device)]


def step_workers(asked: int | Auto, device: torch.device) -> Workers:
    """How many processes share the steps of one engine, and why."""
    if device.type == "cpu":
        return choose_torch_workers(asked, device)
    return choose_workers("auto" if asked == "auto" else 1, threads=1, gpus=[str(device)])


def continuous_capacity(
    memory: ModelMemory,
    device: torch.device,
    free_bytes: int,
    *,
    batching: Batching,
    workers: Workers,
) -> ContinuousCapacity:
    """What continuous batching takes of the bytes that are free beside weights and packed weights.

    Raises:
        ResourceError: not even a short row fits.
    """
    kind = _DEVICES[device.type]
    room = plannable_bytes(free_bytes, batching.memory_fraction, kind)
    plan = plan_slots(memory, room=room, device=kind, batching=batching, workers=workers.count)
    return ContinuousCapacity(plan, workers)


def padded_budget(
    memory: ModelMemory, device: torch.device, free_bytes: int, batching: Batching
) -> Budget:
    """What a padded batch may hold.

    Raises:
        ResourceError: not one short row fits.
    """
    kind = _DEVICES[device.type]
    return compute_budget(
        memory, free_bytes=free_bytes, fraction=batching.memory_fraction, device=kind
    )
