"""How many rows and tokens run together on a device. `run` and `plan` use the same functions.

workers    processes that compute in parallel
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
"""For tiers other than `continuous`, on one device."""
_DEVICES: Mapping[str, Device] = {"cpu": "cpu", "cuda": "cuda"}


@dataclass(frozen=True, slots=True)
class ContinuousCapacity:
    """Capacity of continuous batching."""

    plan: SlotPlan
    workers: Workers


def packable_bytes(free_bytes: int) -> int:
    """Most bytes of a packed copy of the weights, from the bytes that are free besides the weights."""
    return free_bytes // 2


def choose_torch_workers(asked: int | Auto, device: torch.device) -> Workers:
    """Number of parallel processes and its reason: step workers of one engine on a CPU, one engine per GPU.

    Raises:
        UsageError: more workers than GPUs.
    """
    there = usable_gpus(device, torch.cuda.device_count())
    return choose_workers(asked, threads=torch.get_num_threads(), gpus=there)


def usable_gpus(device: torch.device, there: int) -> list[str]:
    """The usable ones of `there` GPUs: all, unless the device has a number."""
    if device.type != "cuda":
        return []
    return [f"cuda:{n}" for n in range(there)] if str(device) == "cuda" else [str(device)]


def step_workers(asked: int | Auto, device: torch.device) -> Workers:
    """Number of processes that share the steps of one engine, and its reason."""
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
    """Capacity of continuous batching, from the bytes that are free besides weights and packed weights.

    Raises:
        ResourceError: not even a short row fits.
    """
    kind = _DEVICES[device.type]
    room = plannable_bytes(free_bytes, batching.memory_fraction, kind)
    plan = plan_slots(
        memory, available_bytes=room, device=kind, batching=batching, workers=workers.count
    )
    return ContinuousCapacity(plan, workers)


def padded_budget(
    memory: ModelMemory, device: torch.device, free_bytes: int, batching: Batching
) -> Budget:
    """Largest padded batch.

    Raises:
        ResourceError: not one short row fits.
    """
    kind = _DEVICES[device.type]
    return compute_budget(
        memory, free_bytes=free_bytes, fraction=batching.memory_fraction, device=kind
    )
