"""The engine `transformers` as the registry lists it. torch is imported when it is opened or estimated."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from batchgen.engines.contract import Engine, EngineEntry, EngineInfo, Estimate
from batchgen.engines.model_folder_check import required_folder
from batchgen.engines.torch.continuous.early_kernels import compile_kernels_early
from batchgen.engines.torch.precision.torch_machine import TorchMachine
from batchgen.errors import ResourceError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.address_space import require_room_for_torch
from batchgen.planning.dtype_choice import ChosenDtype, choose_dtype
from batchgen.records import AnswerDecoder
from batchgen.section import Auto

INFO = EngineInfo(
    name="transformers",
    summary="computes a local model with torch, on CPUs and GPUs",
    needs="weights",
    options=frozenset(
        {
            "decoding.min_new_tokens",
            "decoding.temperature",
            "decoding.top_p",
            "decoding.top_k",
            "decoding.min_p",
            "decoding.repetition_penalty",
            "decoding.no_repeat_ngram_size",
            "decoding.num_beams",
            "decoding.length_penalty",
            "decoding.stop_strings",
            "decoding.logprobs",
            "decoding.generation_kwargs",
            "decoding.response_format",
            "model.adapter",
            "model.dtype",
            "model.device",
            "model.attn_implementation",
            "batching.max_rows",
            "batching.max_tokens",
            "batching.sort",
            "batching.memory_fraction",
            "run.workers",
        }
    ),
    seeds=True,
    likelihoods=True,
    batch_invariant=None,
    batch_invariant_reason="measured when the model is loaded",
    token_exact=True,
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
    """Load the model: in this process, or in a process for each of several GPUs. The latter was never run on GPUs."""
    _require_docstrings()
    require_room_for_torch()
    from batchgen.engines.torch.capacity import choose_torch_workers
    from batchgen.engines.torch.engine import open_torch_engine
    from batchgen.engines.torch.model import pick_device

    folder = required_folder(folder, INFO)
    chosen = choose_torch_workers(workers, pick_device(model.device))
    if len(chosen.gpus) > 1:
        from batchgen.engines.replicas.replicated_engine import open_replicas

        opening = partial(open_torch_engine, folder, workers=1, decode=decode)
        return open_replicas(chosen, model, opening, batching=batching, should_stop=should_stop)
    return open_torch_engine(
        folder, model, batching=batching, workers=workers, decode=decode, should_stop=should_stop
    )


def _estimate(
    model: ModelSpec, *, folder: Path | None, batching: Batching, workers: int | Auto
) -> Estimate:
    _require_docstrings()
    require_room_for_torch()
    from batchgen.engines.torch.estimate import estimate_torch_engine

    return estimate_torch_engine(
        required_folder(folder, INFO), model, batching=batching, workers=workers
    )


def _choose_dtype(model: ModelSpec, *, checkpoint: str, recorded: str | None) -> ChosenDtype:
    return choose_dtype(model, checkpoint, TorchMachine(), recorded)


def _check_adapter(model: ModelSpec, *, folder: Path) -> None:
    _require_docstrings()
    require_room_for_torch()
    from batchgen.engines.torch.estimate import check_torch_adapter

    check_torch_adapter(folder, model)


def _require_docstrings() -> None:
    """Transformers derives the documentation of its classes from docstrings when it is imported, and fails without them."""
    if sys.flags.optimize > 1:
        raise ResourceError(
            "Python runs without docstrings (-OO or PYTHONOPTIMIZE=2), which transformers needs",
            hint="Unset PYTHONOPTIMIZE, or set it to 1.",
        )


TRANSFORMERS = EngineEntry(
    INFO,
    _open,
    _estimate,
    _choose_dtype,
    check_adapter=_check_adapter,
    compile_early=compile_kernels_early,
)
