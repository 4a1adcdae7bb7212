"""The engine `openvino` as the registry lists it. OpenVINO is imported in the process that it starts, nowhere else."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from batchgen.engines.contract import Engine, EngineEntry, EngineInfo, ModelUse
from batchgen.engines.model_folder_check import required_folder
from batchgen.engines.openvino.installed_openvino import (
    INSTALL,
    installation_problem,
    require_openvino,
)
from batchgen.engines.openvino.openvino_estimate import OpenvinoEstimate, estimate_openvino
from batchgen.engines.replicas.replicated_engine import WINDOW, ReplicatedEngine
from batchgen.errors import Problem, ResourceError
from batchgen.job.spec import Batching, Job, ModelSpec
from batchgen.planning.dtype_choice import ChosenDtype
from batchgen.planning.host_processor import BFLOAT16_FLAGS, read_processor
from batchgen.records import AnswerDecoder
from batchgen.section import Auto

INFO = EngineInfo(
    name="openvino",
    summary="computes a model converted for OpenVINO with OpenVINO GenAI, which is installed separately, on CPUs",
    needs="weights",
    weight_format="openvino",
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
            "model.dtype",
            "batching.max_rows",
            "batching.max_tokens",
            "batching.sort",
            "batching.memory_fraction",
        }
    ),
    seeds=True,
    likelihoods=False,
    batch_invariant=None,
    batch_invariant_reason="measured when the model is loaded",
    token_exact=True,
    compressed_weights=frozenset({"openvino"}),
    top_logprobs=0,
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
    """Load the model in a process of its own: if the library crashes, this process still saves what is answered."""
    del workers
    from batchgen.engines.openvino.open_openvino import open_openvino_engine

    require_openvino()
    opening = partial(
        open_openvino_engine, required_folder(folder, INFO), model, batching=batching, decode=decode
    )
    return ReplicatedEngine(
        [("", opening)],
        name=INFO.name,
        window=min(WINDOW, batching.part_rows),
        reason="one process",
        should_stop=should_stop,
        library="OpenVINO GenAI",
    )


def _estimate(
    model: ModelSpec, *, folder: Path | None, batching: Batching, workers: int | Auto
) -> OpenvinoEstimate:
    del workers
    require_openvino()
    return estimate_openvino(required_folder(folder, INFO), model, batching)


def _choose_dtype(model: ModelSpec, *, checkpoint: str, recorded: str | None) -> ChosenDtype:
    flags = read_processor().bfloat16_flags
    lacking = f"the processor has neither {' nor '.join(BFLOAT16_FLAGS)}"
    if model.dtype != "auto":
        chosen = ChosenDtype(model.dtype, "set by model.dtype")
    elif recorded is not None and recorded != "auto":
        chosen = ChosenDtype(recorded, "the run began in it")
    elif checkpoint == "float32":
        chosen = ChosenDtype("float32", "the model's format before its conversion")
    elif flags:
        chosen = ChosenDtype("bfloat16", f"OpenVINO's format on this processor ({flags[0]})")
    else:
        chosen = ChosenDtype("float32", lacking)
    if chosen.dtype == "bfloat16" and not flags:
        raise ResourceError(
            f"model.dtype: bfloat16 ({chosen.reason}), but {lacking}: OpenVINO would compute in float32",
            hint="Set model.dtype: float32, or run on a processor with bfloat16 products.",
        )
    return chosen


def _identify(
    _model: ModelSpec, _use: ModelUse, _report: Callable[[str], None]
) -> Mapping[str, object]:
    """What can change tokens besides the model's files."""
    return {"computed_by": {"openvino_genai": require_openvino()}}


def _problems(job: Job, model: ModelSpec, key: str) -> Iterator[Problem]:
    if (problem := installation_problem()) is not None:
        yield Problem(f"{key}.engine", problem, INSTALL)
    if model.dtype == "float16":
        message = "float16: engine openvino computes in float32 or bfloat16 on a CPU"
        yield Problem(f"{key}.dtype", message, "Write auto, float32 or bfloat16.")
    if model.device not in ("auto", "cpu"):
        message = f"{model.device}: engine openvino computes on a CPU"
        yield Problem(f"{key}.device", message, "Remove it, or choose another model.engine.")
    if model.trust_remote_code:
        message = "has no effect: a converted model contains no Python code that would run"
        yield Problem(f"{key}.trust_remote_code", message, "Remove it.")
    decoding = job.decoding
    if key == "model" and decoding.min_p == 1:
        message = "1: OpenVINO GenAI requires less than 1"
        yield Problem("decoding.min_p", message, "Write a smaller number, or remove temperature.")
    if key == "model" and decoding.min_p and (decoding.top_p or 1.0) < 1:
        message = "together with top_p: OpenVINO applies min_p first, other engines top_p first"
        yield Problem("decoding.min_p", message, "Set one of the two.")


OPENVINO = EngineEntry(
    INFO, _open, _estimate, _choose_dtype, identify=_identify, problems=_problems
)
