"""What the engine would take, found without loading a weight: `plan` shows it.

The tier is as an earlier run found it. Where none has, room is planned for slots if the model's decoder may be tried there.
"""

from pathlib import Path

import torch
from transformers import PreTrainedConfig

from batchgen.engines.contract import Estimate, SlotEstimate
from batchgen.engines.torch.capacity import PADDED, fits, lanes, packed_room, slot_room, workers
from batchgen.engines.torch.continuous.forward.linear import packs
from batchgen.engines.torch.continuous.forward.llama import suits
from batchgen.engines.torch.memory import free_memory, planned_memory
from batchgen.engines.torch.model import pick_device, planned_dtype, read_config
from batchgen.engines.torch.model_files import ModelFiles
from batchgen.engines.torch.select.continuous_probe import OWN_FORWARD
from batchgen.engines.torch.select.environment import Computing
from batchgen.engines.torch.select.tier_cache import Finding
from batchgen.engines.torch.select.tier_selection import known_finding
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.budget import limits
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
    chosen = workers(workers_asked, device)
    if len(chosen.gpus) > 1:
        device = torch.device(chosen.gpus[0])  # where the first of them looks for what is known
    config = read_config(folder, spec)
    dtype = planned_dtype(spec, config, device)
    memory = planned_memory(config, dtype)
    free = free_memory(device)
    beside = free - memory.weight_bytes
    packed = packs(memory.weight_bytes, device, dtype, packed_room(beside))
    known = known_finding(
        ModelFiles.look(folder, spec), Computing(device, dtype, packed=packed, fastest="slots")
    )
    packed_bytes = memory.weight_bytes if packed and _own_forward(config, known) else 0
    slots = None
    if known.tier.startswith("slots") if known else not config.is_encoder_decoder:
        loaded = memory.loaded()
        found = slot_room(
            loaded,
            device,
            beside - packed_bytes,
            batching=batching,
            workers=lanes(workers_asked, device),
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
        limits=limits(batching, fits(memory, device, free - packed_bytes, batching)),
        tier=known.tier if known else None,
        packed_bytes=packed_bytes,
        slots=slots,
        workers=chosen if slots or len(chosen.gpus) > 1 else PADDED,
    )


def _own_forward(config: PreTrainedConfig, known: Finding | None) -> bool:
    return known.tier == OWN_FORWARD if known else suits(config)
