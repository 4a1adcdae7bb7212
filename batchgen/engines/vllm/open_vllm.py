"""Opens the engine: here the processes are started, and there vLLM is imported and loads the model."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from batchgen.engines.contract import Engine
from batchgen.engines.replicas.replicated_engine import WINDOW, ReplicatedEngine
from batchgen.engines.vllm.engine_death import first_cause
from batchgen.engines.vllm.gpu_groups import choose_groups
from batchgen.engines.vllm.installed_vllm import require_vllm
from batchgen.engines.vllm.memory_limits import memory_arguments
from batchgen.engines.vllm.vllm_arguments import engine_arguments
from batchgen.engines.vllm.vllm_engine import NAME, VllmEngine
from batchgen.errors import ModelError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.records import AnswerDecoder
from batchgen.section import Auto

PRIVACY: Mapping[str, str] = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CONFIGURE_LOGGING": "1",
}
"""Set before vLLM is imported: it sends nothing anywhere, and prints no rows."""
_NEVER = ("VLLM_LOGGING_CONFIG_PATH", "VLLM_TRACE_FUNCTION", "VLLM_USAGE_STATS_SERVER")
INVARIANT = "VLLM_BATCH_INVARIANT"


def open_vllm_engine(
    model: ModelSpec,
    *,
    folder: Path,
    batching: Batching,
    workers: int | Auto,
    decode: AnswerDecoder,
    should_stop: Callable[[], bool],
) -> Engine:
    """Open the engine in a process for each group of GPUs, or in one.

    Raises:
        ModelError: vLLM is not installed, or cannot load the model.
        ResourceError: not enough memory, or a process cannot be started.
        UsageError: more workers, or a larger group, than there are GPUs.
    """
    require_vllm()
    groups = choose_groups(model, workers)
    window = min(WINDOW, batching.part_rows)
    openings = [
        (
            group.name if len(groups.groups) > 1 else "",
            partial(
                load_vllm,
                model,
                folder=folder,
                batching=batching,
                devices=group.devices,
                decode=decode,
            ),
        )
        for group in groups.groups
    ]
    return ReplicatedEngine(
        openings,
        name=NAME,
        window=window,
        reason=groups.workers.reason,
        should_stop=should_stop,
        library="vLLM",
    )


def load_vllm(
    model: ModelSpec,
    *,
    folder: Path,
    batching: Batching,
    devices: str | None,
    decode: AnswerDecoder,
    should_stop: Callable[[], bool],
) -> VllmEngine:
    """Load the model in this process, which must have been started for it.

    `devices` is what CUDA_VISIBLE_DEVICES is set to; None leaves it as it is.

    Raises:
        ModelError: it cannot be loaded.
    """
    installed = require_vllm()
    os.environ.update(PRIVACY)
    for name in _NEVER:
        os.environ.pop(name, None)
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    if installed.computes_on_cpu:
        # By default vLLM leaves one core to its scheduler.
        os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    arguments = engine_arguments(model, folder, batching)
    memory = memory_arguments(model, folder, batching, on_cpu=installed.computes_on_cpu)
    try:
        engine = _create({**memory, **arguments})
    except Exception as error:
        raise ModelError(
            f"vLLM {installed.version} cannot load {folder}: {first_cause(error)}",
            hint="If memory is short: lower model.max_model_len or batching.max_rows. Otherwise see vLLM's list of supported models.",
        ) from error
    facts = _facts(engine.vllm_config, installed.version, model)
    return VllmEngine(
        engine, decode=decode, should_stop=should_stop, facts=facts, adapter=_adapter(model)
    )


def _create(arguments: dict[str, object]) -> Any:  # noqa: ANN401  vLLM's LLMEngine: it has no types here
    from vllm import EngineArgs
    from vllm.config import StructuredOutputsConfig
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    # The library that other engines use, and that `validate` checks forms with.
    forms = StructuredOutputsConfig(backend="guidance")
    # Limits for batches, as in vLLM's class LLM, and not for a server.
    return LLMEngine.from_engine_args(
        EngineArgs(**arguments, structured_outputs_config=forms),
        usage_context=UsageContext.LLM_CLASS,
    )


def _adapter(model: ModelSpec) -> Any:  # noqa: ANN401  vLLM's LoRARequest
    if model.adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, model.adapter)


def _facts(config: Any, version: str, model: ModelSpec) -> dict[str, object]:  # noqa: ANN401  vLLM's VllmConfig
    invariant = is_batch_invariant()
    backend = getattr(getattr(config, "attention_config", None), "backend", None)
    return {
        "vllm": version,
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "quantization": str(config.model_config.quantization or "none"),
        "attention_backend": getattr(backend, "name", "chosen by vLLM"),
        "tensor_parallel": model.tensor_parallel,
        "max_rows": config.scheduler_config.max_num_seqs,
        "batch_invariant": invariant,
        "batch_invariant_reason": f"{INVARIANT} is {'set' if invariant else 'not set'}",
    }


def is_batch_invariant() -> bool:
    """Whether the environment requires vLLM to compute each row independently of the others."""
    return os.environ.get(INVARIANT, "0") == "1"
