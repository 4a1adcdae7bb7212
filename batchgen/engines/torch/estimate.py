"""Estimate of the engine's tier and memory for `plan`, without loading weights.

The tier is that of an earlier run; without one, the estimate is for continuous batching if the model is decoder-only.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from batchgen.engines.contract import Estimate, MemoryEstimate, Origin
from batchgen.engines.torch.adapter.merge_adapter import check_finite, untie
from batchgen.engines.torch.adapter.model_match import check_adapter
from batchgen.engines.torch.capacity import (
    PADDED,
    choose_torch_workers,
    continuous_capacity,
    packable_bytes,
    padded_budget,
    step_workers,
)
from batchgen.engines.torch.continuous.forward.llama import is_supported
from batchgen.engines.torch.continuous.forward.products.linear import choose_packing
from batchgen.engines.torch.memory import build_without_weights, free_memory, planned_memory
from batchgen.engines.torch.model import (
    building,
    pick_device,
    planned_dtype,
    read_config,
)
from batchgen.engines.torch.model_files import ModelFiles
from batchgen.engines.torch.select.continuous_probe import OWN_FORWARD
from batchgen.engines.torch.select.tier_cache import ComputeSettings, TierRecord
from batchgen.engines.torch.select.tier_selection import cached_tier
from batchgen.engines.torch.weights.missing_tensors import refuse_incomplete
from batchgen.job.spec import Batching, ModelSpec
from batchgen.lora.adapter_folder import read_adapter
from batchgen.planning.kv_cache_plan import KvCachePlan
from batchgen.planning.padded_batch_budget import batch_limits
from batchgen.section import Auto


@dataclass(frozen=True, slots=True)
class TorchEstimate(Estimate):
    """Estimate for a local model; sizes are bytes. With several GPUs, all but `workers` is for the first one.

    Attributes:
        tier: that of an earlier run; None before the first run.
        fallback: why that is not the fastest tier; empty if it is.
        variant: in which batches a row's logits change; empty if in none, or if only in the last bits of float32.
        weight_bytes: of the weights that stay as they are: of the embedding alone if the others are packed.
        packed_bytes: of the packed weights, for faster products.
        kv_cache: None for padded batches.
    """

    dtype: str
    weight_bytes: int
    kv_bytes_per_token: int
    free_bytes: int
    tier: str | None = None
    fallback: str = ""
    variant: str = ""
    packed_bytes: int = 0
    kv_cache: KvCachePlan | None = None

    @property
    def row_tokens(self) -> int:
        """Tokens whose keys and values fit, without shared prefixes; 0 for padded batches."""
        return self.kv_cache.pages * self.kv_cache.page_size if self.kv_cache else 0

    @property
    def rows_at_once(self) -> int:
        return self.kv_cache.rows if self.kv_cache else self.limits.rows

    def model_facts(self, origin: Origin) -> list[str]:
        return [
            f"{self.dtype} ({origin('model.dtype')})",
            f"{self.device} ({origin('model.device')})",
            f"tier {self.tier}" if self.tier else "tier decided at first load",
        ]

    def warnings(self) -> list[str]:
        slower = [f"slower tier: {self.fallback}"] if self.fallback else []
        return [*slower, *([f"not batch-invariant: {self.variant}"] if self.variant else [])]

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
        packed = (("packed weights", self.packed_bytes),) if self.packed_bytes else ()
        cache = ("KV cache at most", self.kv_bytes_per_token * tokens)
        return MemoryEstimate(
            (("embedding" if packed else "weights", self.weight_bytes), *packed, cache),
            self.kv_bytes_per_token,
            self.free_bytes,
        )


def estimate_torch_engine(
    folder: Path, spec: ModelSpec, *, batching: Batching, workers: int | Auto = "auto"
) -> TorchEstimate:
    """Estimate from the model's config and the tier of an earlier run.

    Raises:
        ModelError: the config cannot be read, or belongs to other weights.
        ResourceError: no such device, or not enough memory.
        UsageError: more workers than GPUs.
    """
    device = pick_device(spec.device)
    chosen = choose_torch_workers(workers, device)
    if len(chosen.gpus) > 1:
        device = torch.device(chosen.gpus[0])  # the cache key of the first engine
    config = read_config(folder, spec)
    dtype = planned_dtype(spec, config)
    with building(folder) as stored:
        model = build_without_weights(config)
        refuse_incomplete(folder, stored.unmatched_layers(model))
        if spec.adapter is not None:
            untie(model, read_adapter(Path(spec.adapter)))
        memory = planned_memory(model, dtype)
    free = free_memory(device)
    free_besides_weights = free - memory.weight_bytes
    packable = packable_bytes(free_besides_weights)
    packing = choose_packing(memory.weight_bytes, device, dtype, packable)
    settings = ComputeSettings(device, dtype, packing, fastest="continuous")
    cached = cached_tier(ModelFiles.scan(folder, spec), settings)
    own_forward = cached.tier == OWN_FORWARD if cached else is_supported(config)
    packed_bytes = packing.bytes if packing and own_forward else 0
    embeddings = model.get_input_embeddings().parameters()
    kept = sum(weight.numel() for weight in embeddings) * dtype.itemsize
    weight_bytes = kept if packed_bytes else memory.weight_bytes
    kv_cache = None
    if cached.tier.startswith("continuous") if cached else not config.is_encoder_decoder:
        kv_cache = continuous_capacity(
            memory.loaded(),
            device,
            free - weight_bytes - packed_bytes,
            batching=batching,
            workers=step_workers(workers, device).count,
        )
    return TorchEstimate(
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        weight_bytes=weight_bytes,
        kv_bytes_per_token=memory.kv_bytes_per_token,
        free_bytes=free,
        limits=batch_limits(batching, padded_budget(memory, device, free - packed_bytes, batching)),
        tier=cached.tier if cached else None,
        fallback=cached.fallback if cached else "",
        variant=cached.batch_invariant_reason if cached and _varies(cached, dtype) else "",
        packed_bytes=packed_bytes,
        kv_cache=kv_cache,
        workers=chosen if kv_cache or len(chosen.gpus) > 1 else PADDED,
    )


def check_torch_adapter(folder: Path, spec: ModelSpec) -> None:
    """Check that the adapter of a model fits it, and that its numbers are finite.

    Raises:
        AdapterError: it does not.
        ModelError: the config cannot be read.
    """
    adapter = read_adapter(Path(spec.adapter or ""))
    config = read_config(folder, spec)
    with building(folder):
        model = build_without_weights(config)
    check_adapter(model, adapter)
    check_finite(adapter)


def _varies(record: TierRecord, dtype: torch.dtype) -> bool:
    """Whether the batch may change an answer of a row other than by the last bits of float32."""
    return dtype.itemsize < torch.float32.itemsize and not record.batch_invariant
