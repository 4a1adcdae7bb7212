"""Estimate of the engine's tier and memory for `plan`, without loading weights.

The tier is that of an earlier run; without one, the estimate is for continuous batching if the model is decoder-only.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from batchgen.engines.contract import Estimate, MemoryEstimate, Origin
from batchgen.engines.torch.capacity import (
    PADDED,
    choose_torch_workers,
    continuous_capacity,
    packable_bytes,
    padded_budget,
    step_workers,
)
from batchgen.engines.torch.continuous.forward.linear import should_pack_weights
from batchgen.engines.torch.continuous.forward.llama import is_supported
from batchgen.engines.torch.memory import free_memory, planned_memory
from batchgen.engines.torch.model import pick_device, planned_dtype, read_config
from batchgen.engines.torch.model_files import ModelFiles
from batchgen.engines.torch.select.continuous_probe import OWN_FORWARD
from batchgen.engines.torch.select.tier_cache import ComputeSettings
from batchgen.engines.torch.select.tier_selection import cached_tier
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.kv_cache_plan import KvCachePlan
from batchgen.planning.padded_batch_budget import batch_limits
from batchgen.section import Auto


@dataclass(frozen=True, slots=True)
class TorchEstimate(Estimate):
    """Estimate for a local model; sizes are bytes. With several GPUs, all but `workers` is for the first one.

    Attributes:
        tier: that of an earlier run; None before the first run.
        packed_bytes: size of a packed copy of the weights, for faster products.
        kv_cache: None for padded batches.
    """

    dtype: str
    weight_bytes: int
    kv_bytes_per_token: int
    free_bytes: int
    tier: str | None = None
    packed_bytes: int = 0
    kv_cache: KvCachePlan | None = None

    @property
    def row_tokens(self) -> int:
        """Tokens whose keys and values fit, without shared prefixes; 0 for padded batches."""
        return self.kv_cache.pages * self.kv_cache.page_size if self.kv_cache else 0

    def model_facts(self, origin: Origin) -> list[str]:
        return [
            f"{self.dtype} ({origin('model.dtype')})",
            f"{self.device} ({origin('model.device')})",
            f"tier {self.tier}" if self.tier else "tier decided at first load",
        ]

    def batch_lines(self, origin: Origin) -> list[str]:
        if self.kv_cache is None:
            return []
        return [
            f"none: rows enter and leave at every step, up to {self.kv_cache.rows:,} at a time "
            f"({origin('batching.max_rows')})",
            f"room for {self.row_tokens:,} tokens ({origin('batching.max_tokens')}) and "
            f"{self.kv_cache.arena:,} of shared prefixes",
        ]

    def memory(self, *, batch_tokens: int, job_tokens: int) -> MemoryEstimate:
        # No more tokens than the job has are ever held.
        tokens = (
            min(self.row_tokens + self.kv_cache.arena, job_tokens)
            if self.kv_cache
            else batch_tokens
        )
        packed = (("packed copy", self.packed_bytes),) if self.packed_bytes else ()
        cache = ("KV cache at most", self.kv_bytes_per_token * tokens)
        return MemoryEstimate(
            (("weights", self.weight_bytes), *packed, cache),
            self.kv_bytes_per_token,
            self.free_bytes,
        )


def estimate_torch_engine(
    folder: Path, spec: ModelSpec, *, batching: Batching, workers: int | Auto = "auto"
) -> TorchEstimate:
    """Estimate from the model's config and the tier of an earlier run.

    Raises:
        ModelError: the config cannot be read.
        ResourceError: no such device, or not enough memory.
        UsageError: more workers than GPUs.
    """
    device = pick_device(spec.device)
    chosen = choose_torch_workers(workers, device)
    if len(chosen.gpus) > 1:
        device = torch.device(chosen.gpus[0])  # the cache key of the first engine
    config = read_config(folder, spec)
    dtype = planned_dtype(spec, config, device)
    memory = planned_memory(config, dtype)
    free = free_memory(device)
    free_besides_weights = free - memory.weight_bytes
    packable = packable_bytes(free_besides_weights)
    packed = should_pack_weights(memory.weight_bytes, device, dtype, packable)
    settings = ComputeSettings(device, dtype, packed=packed, fastest="continuous")
    cached = cached_tier(ModelFiles.scan(folder, spec), settings)
    own_forward = cached.tier == OWN_FORWARD if cached else is_supported(config)
    packed_bytes = memory.weight_bytes if packed and own_forward else 0
    kv_cache = None
    if cached.tier.startswith("continuous") if cached else not config.is_encoder_decoder:
        kv_cache = continuous_capacity(
            memory.loaded(),
            device,
            free_besides_weights - packed_bytes,
            batching=batching,
            workers=step_workers(workers, device).count,
        )
    return TorchEstimate(
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        weight_bytes=memory.weight_bytes,
        kv_bytes_per_token=memory.kv_bytes_per_token,
        free_bytes=free,
        limits=batch_limits(batching, padded_budget(memory, device, free - packed_bytes, batching)),
        tier=cached.tier if cached else None,
        packed_bytes=packed_bytes,
        kv_cache=kv_cache,
        workers=chosen if kv_cache or len(chosen.gpus) > 1 else PADDED,
    )
