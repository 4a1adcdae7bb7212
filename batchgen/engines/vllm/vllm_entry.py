"""The engine `vllm` as the registry lists it. vLLM is imported in the processes that it starts, nowhere else."""

from collections.abc import Callable, Mapping
from pathlib import Path

from batchgen.engines.contract import Engine, EngineEntry, EngineInfo, Estimate, ModelUse
from batchgen.engines.model_folder_check import required_folder
from batchgen.engines.vllm.vllm_arguments import deciding_arguments, vllm_problems
from batchgen.job.spec import Batching, ModelSpec
from batchgen.records import AnswerDecoder
from batchgen.section import Auto

INFO = EngineInfo(
    name="vllm",
    summary="computes a local model with vLLM, which is installed separately, on GPUs and CPUs",
    needs="weights",
    options=frozenset(
        {
            "decoding.min_new_tokens",
            "decoding.temperature",
            "decoding.top_p",
            "decoding.top_k",
            "decoding.min_p",
            "decoding.repetition_penalty",
            "decoding.stop_strings",
            "decoding.logprobs",
            "decoding.response_format",
            "model.adapter",
            "model.dtype",
            "model.device",
            "model.tensor_parallel",
            "model.engine_args",
            "batching.max_rows",
            "batching.sort",
            "batching.memory_fraction",
            "run.workers",
        }
    ),
    seeds=True,
    likelihoods=True,
    batch_invariant=None,
    batch_invariant_reason="decided by VLLM_BATCH_INVARIANT in the environment",
    token_exact=True,
    compressed_weights=frozenset(
        {
            "auto-round",
            "awq",
            "compressed-tensors",
            "fbgemm_fp8",
            "fp8",
            "gptq",
            "modelopt",
            "mxfp4",
            "quark",
            "torchao",
        }
    ),
)


def _open(
    model: ModelSpec,
    *,
    folder: Path | None,
    batching: Batching,
    workers: int | Auto,
    decode: AnswerDecoder,
    should_stop: Callable[[], bool],
) -> Engine:
    from batchgen.engines.vllm.open_vllm import open_vllm_engine

    return open_vllm_engine(
        model,
        folder=required_folder(folder, INFO),
        batching=batching,
        workers=workers,
        decode=decode,
        should_stop=should_stop,
    )


def _estimate(
    model: ModelSpec, *, folder: Path | None, batching: Batching, workers: int | Auto
) -> Estimate:
    from batchgen.engines.vllm.vllm_estimate import estimate_vllm_engine

    return estimate_vllm_engine(
        model, folder=required_folder(folder, INFO), batching=batching, workers=workers
    )


def _identify(
    model: ModelSpec, _use: ModelUse, _report: Callable[[str], None]
) -> Mapping[str, object]:
    """What can change tokens besides the model's files."""
    from batchgen.engines.vllm.installed_vllm import require_vllm
    from batchgen.engines.vllm.open_vllm import is_batch_invariant

    settings = {
        "vllm": require_vllm().version,
        "tensor_parallel": model.tensor_parallel,
        "batch_invariant": is_batch_invariant(),
        "engine_args": deciding_arguments(model),
    }
    return {"computed_by": settings}


def _check_adapter(model: ModelSpec, *, folder: Path) -> None:
    del folder
    from batchgen.engines.vllm.vllm_adapter import check_vllm_adapter

    check_vllm_adapter(Path(model.adapter or ""))


VLLM = EngineEntry(
    INFO,
    _open,
    _estimate,
    identify=_identify,
    problems=vllm_problems,
    check_adapter=_check_adapter,
)
