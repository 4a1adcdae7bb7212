"""Which LoRA adapters vLLM computes as they were trained. It does not merge them into the weights."""

from collections.abc import Iterator
from pathlib import Path

from batchgen.engines.vllm.vllm_arguments import MOST_RANK, largest_rank
from batchgen.errors import AdapterError, Problem
from batchgen.lora.adapter_folder import Adapter, read_adapter

_MERGE = (
    "Merge the adapter into its model with peft, and set model.path; or choose engine transformers."
)


def check_vllm_adapter(folder: Path) -> None:
    """Check an adapter, without loading its model.

    Raises:
        AdapterError: it is damaged, or vLLM does not compute it.
    """
    reasons = list(_reasons(read_adapter(folder)))
    if largest_rank(folder) > MOST_RANK:
        reasons.append(f"a rank above {MOST_RANK}")
    if reasons:
        message = f"{folder}: engine vllm does not support {', '.join(reasons)}"
        raise AdapterError([Problem("", message, _MERGE)])


def _reasons(adapter: Adapter) -> Iterator[str]:
    config, tensors = adapter.config, adapter.tensors
    if config.use_dora:
        yield "DoRA (use_dora)"
    if config.lora_bias or config.bias != "none":
        yield "biases (bias, lora_bias)"
    if tensors.whole:
        yield "whole parameters (modules_to_save)"
    if config.rank_pattern or config.alpha_pattern:
        yield "rank_pattern and alpha_pattern"
    if any(one.embedding for one in tensors.matrices.values()):
        yield "adapters of embeddings"
