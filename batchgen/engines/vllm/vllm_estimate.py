"""What `plan` prints about vLLM, which it does not import."""

from dataclasses import dataclass
from pathlib import Path

from batchgen.engines.contract import Estimate, MemoryEstimate, Origin
from batchgen.engines.vllm.gpu_groups import choose_groups
from batchgen.engines.vllm.installed_vllm import require_vllm
from batchgen.engines.vllm.memory_limits import ROWS, gpu_memory, host_cache_bytes, model_bytes
from batchgen.engines.vllm.open_vllm import is_batch_invariant
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.batches import BatchLimits
from batchgen.planning.host_memory import free_host_memory
from batchgen.section import Auto


@dataclass(frozen=True, slots=True)
class VllmEstimate(Estimate):
    """Estimate for a model of vLLM; sizes are bytes, of one process.

    Attributes:
        fixed_rows: `batching.max_rows`, if the job sets it.
        cache_bytes: of keys and values at most.
    """

    version: str
    dtype: str
    tensor_parallel: int
    fixed_rows: int | None
    weight_bytes: int
    kv_bytes_per_token: int
    cache_bytes: int
    free_bytes: int
    batch_invariant: bool

    def model_facts(self, origin: Origin) -> list[str]:
        size = self.tensor_parallel
        shared = [f"tensor parallel on {size} GPUs"] if size > 1 else []
        return [self.version, f"{self.dtype} ({origin('model.dtype')})", self.device, *shared]

    def warnings(self) -> list[str]:
        if self.batch_invariant:
            return []
        return [
            "an answer may depend on the other rows in flight, by rounding: VLLM_BATCH_INVARIANT is not set"
        ]

    def batch_lines(self, origin: Origin) -> list[str]:
        most = "as many at a time as vLLM chooses"
        if self.fixed_rows is not None:
            most = f"up to {self.fixed_rows:,} at a time"
        return [f"none: rows enter and leave at every step, {most} ({origin('batching.max_rows')})"]

    def memory(self, *, batch_tokens: int, job_tokens: int) -> MemoryEstimate:
        del batch_tokens, job_tokens  # the memory for keys and values is taken when vLLM starts
        parts = (("weights", self.weight_bytes), ("KV cache at most", self.cache_bytes))
        return MemoryEstimate(parts, self.kv_bytes_per_token, self.free_bytes)


def estimate_vllm_engine(
    model: ModelSpec, *, folder: Path, batching: Batching, workers: int | Auto
) -> VllmEstimate:
    """Estimate from the model's config and the sizes of its files.

    Raises:
        ModelError: vLLM is not installed, or the config cannot be read.
        UsageError: more workers, or a larger group, than there are GPUs.
    """
    installed, groups = require_vllm(), choose_groups(model, workers)
    sizes = model_bytes(model, folder)
    fixed = None if batching.max_rows == "auto" else batching.max_rows
    weights = sizes.weights // model.tensor_parallel
    if groups.device == "cpu":
        free, cache = free_host_memory(), host_cache_bytes(model, folder, batching)
    else:
        memory = gpu_memory()
        free = memory.free if memory else 0
        cache = max(0, int(free * batching.memory_fraction) - weights)
    return VllmEstimate(
        device=groups.device,
        limits=BatchLimits(rows=fixed or ROWS, tokens=2**62, sort=batching.sort),
        workers=groups.workers,
        version=f"vLLM {installed.version}",
        dtype=model.dtype,
        tensor_parallel=model.tensor_parallel,
        fixed_rows=fixed,
        weight_bytes=weights,
        kv_bytes_per_token=sizes.per_token,
        cache_bytes=cache,
        free_bytes=free,
        batch_invariant=is_batch_invariant(),
    )
