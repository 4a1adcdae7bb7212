"""How many rows and tokens run together on a device. `run` and `plan` use the same functions.

workers    processes that compute in parallel
continuous pages and rows of continuous batching
fits       rows and tokens of a padded batch
"""

from collections.abc import Mapping

import torch

from batchgen.engines.torch.continuous.forward.processor import has_bfloat16_tiles
from batchgen.job.spec import Batching
from batchgen.planning.kv_cache_plan import KvCachePlan, Workers, choose_workers, plan_kv_cache
from batchgen.planning.padded_batch_budget import (
    Budget,
    Device,
    ModelMemory,
    compute_budget,
    plannable_bytes,
)
from batchgen.planning.step_split import StepSplitter, fewest_tokens
from batchgen.section import Auto

PADDED = Workers(1, "padded batches are computed by one process")
"""For tiers other than `continuous`, on one device."""
_DEVICES: Mapping[str, Device] = {"cpu": "cpu", "cuda": "cuda"}


def packable_bytes(free_bytes: int) -> int:
    """Most bytes of a packed copy of the weights, from the bytes that are free besides the weights."""
    return free_bytes // 2


def choose_torch_workers(requested: int | Auto, device: torch.device) -> Workers:
    """Number of processes: step workers of one engine on a CPU, one engine per GPU. Raises UsageError for more than GPUs."""
    gpus = usable_gpus(device, torch.cuda.device_count())
    return choose_workers(requested, threads=torch.get_num_threads(), gpus=gpus)


def usable_gpus(device: torch.device, count: int) -> list[str]:
    """The usable ones of `count` GPUs: all, unless the device has a number."""
    if device.type != "cuda":
        return []
    return [f"cuda:{n}" for n in range(count)] if str(device) == "cuda" else [str(device)]


def step_workers(requested: int | Auto, device: torch.device) -> Workers:
    """Number of processes that share the steps of one engine, and its reason."""
    if device.type == "cpu":
        return choose_torch_workers(requested, device)
    return choose_workers("auto" if requested == "auto" else 1, threads=1, gpus=[str(device)])


def step_splitter(workers: int, dtype: torch.dtype, *, learns: bool, kernel: bool) -> StepSplitter:
    """Splits steps into a part for each worker; `learns` from their times, which must not change answers.

    `kernel`: whether attention is the compiled kernel, which reads a prefix in the same way for any number of rows.
    """
    tiles = dtype == torch.bfloat16 and has_bfloat16_tiles()
    fewest = fewest_tokens(workers, torch.get_num_threads(), in_tiles=tiles)
    return StepSplitter(workers, fewest, learns=learns, with_prefixes=kernel)


def continuous_capacity(
    memory: ModelMemory, device: torch.device, free_bytes: int, *, batching: Batching, workers: int
) -> KvCachePlan:
    """Capacity besides weights and packed weights. Raises ResourceError if not even a short row fits."""
    kind = _DEVICES[device.type]
    usable = plannable_bytes(free_bytes, batching.memory_fraction, kind)
    return plan_kv_cache(
        memory, available_bytes=usable, device=kind, batching=batching, workers=workers
    )


def padded_budget(
    memory: ModelMemory, device: torch.device, free_bytes: int, batching: Batching
) -> Budget:
    """Largest padded batch. Raises ResourceError if not even a short row fits."""
    kind = _DEVICES[device.type]
    return compute_budget(
        memory, free_bytes=free_bytes, fraction=batching.memory_fraction, device=kind
    )
