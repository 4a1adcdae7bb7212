"""What the engine would take, found without loading a weight: `plan` shows it.

The tier is as an earlier run found it. Where none has, room is planned for slots if the model's decoder may be tried there.
"""

from pathlib import Path

import torch
from transformers import PreTrainedConfig

from batchgen.engines.contract import Estimate, SlotEstimate
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
from batchgen.engines.torch.select.environment import ComputeSettings
from batchgen.engines.torch.select.tier_cache import TierRecord
from batchgen.engines.torch.select.tier_selection import cached_tier_record
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.budget import batch_limits
from batchgen.section import Auto


def estimate_torch_engine(
    folder: Path, spec: ModelSpec, *, batching: Batching, workers_asked: int | Auto = "auto"
) -> Estimate:
    """What the engine would take, from the model's config and what earlier runs found out.

    Raises:
        ModelError: the config cannot be read.
        ResourceError: no such device, or not enough memory.
        UsageError: more workers than GPUs.
    """
    device = pick_device(spec.device)
    chosen = choose_torch_workers(workers_asked, device)
    if len(chosen.gpus) > 1:
        device = torch.device(chosen.gpus[0])  # where the first of them looks for what is known
    config = read_config(folder, spec)
    dtype = planned_dtype(spec, config, device)
    memory = planned_memory(config, dtype)
    free = free_memory(device)
    beside = free - memory.weight_bytes
    packed = should_pack_weights(memory.weight_bytes, device, dtype, packable_bytes(beside))
    known = cached_tier_record(
        ModelFiles.look(folder, spec),
        ComputeSettings(device, dtype, packed=packed, fastest="slots"),
    )
    packed_bytes = memory.weight_bytes if packed and _own_forward(config, known) else 0
    slots = None
    if known.tier.startswith("slots") if known else not config.is_encoder_decoder:
        loaded = memory.loaded()
        found = continuous_capacity(
            loaded,
            device,
            beside - packed_bytes,
            batching=batching,
            workers=step_workers(workers_asked, device),
        ).plan
        slots = SlotEstimate(
            rows=found.rows,
            row_tokens=found.pages * found.page_size,
            prefix_tokens=found.arena,
        )
    return Estimate(
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        weight_bytes=memory.weight_bytes,
        kv_bytes_per_token=memory.kv_bytes_per_token,
        free_bytes=free,
        limits=batch_limits(batching, padded_budget(memory, device, free - packed_bytes, batching)),
        tier=known.tier if known else None,
        packed_bytes=packed_bytes,
        slots=slots,
        workers=chosen if slots or len(chosen.gpus) > 1 else PADDED,
    )


def _own_forward(config: PreTrainedConfig, known: TierRecord | None) -> bool:
    return known.tier == OWN_FORWARD if known else is_supported(config)
