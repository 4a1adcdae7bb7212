"""The engines that `model.engine` can name: one entry each. Importing this file imports no library of an engine."""

from collections.abc import Callable, Mapping
from pathlib import Path

from batchgen.engines.contract import Engine, EngineEntry, Estimate, ModelUse
from batchgen.engines.echo import ECHO
from batchgen.engines.openai.openai_entry import OPENAI
from batchgen.engines.openvino.openvino_entry import OPENVINO
from batchgen.engines.torch.entry import TRANSFORMERS
from batchgen.engines.vllm.vllm_entry import VLLM
from batchgen.errors import UsageError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.dtype_choice import ChosenDtype
from batchgen.planning.kv_cache_plan import Workers
from batchgen.planning.padded_batch_budget import Budget, batch_limits
from batchgen.records import AnswerDecoder
from batchgen.section import Auto
from batchgen.storage.openvino_header import WeightFormat

ENGINES: dict[str, EngineEntry] = {
    entry.info.name: entry for entry in (TRANSFORMERS, ECHO, OPENAI, OPENVINO, VLLM)
}
"""By name. An engine of your own: `ENGINES["name"] = EngineEntry(info, open)` before the job runs."""

_DEFAULT_BUDGET = Budget(rows=64, tokens=65_536)
"""For the batches of `plan` if the engine estimates nothing."""


def find_engine(name: str) -> EngineEntry:
    """An engine by the value of `model.engine`.

    Raises:
        UsageError: unknown.
    """
    if name not in ENGINES:
        raise UsageError(f"unknown engine {name!r}", hint=f"The engines are: {', '.join(ENGINES)}.")
    return ENGINES[name]


def required_weights(model: ModelSpec) -> WeightFormat | None:
    """The format of the weights that `model.path` must have; None if the engine needs only the tokenizer.

    An engine that needs nothing stands in for another one: a model that its job names must be complete.

    Raises:
        UsageError: an unknown engine.
    """
    info = find_engine(model.engine).info
    return info.weight_format if info.needs in ("weights", "nothing") else None


def choose_engine_dtype(
    model: ModelSpec, checkpoint: str, recorded: str | None = None
) -> ChosenDtype | None:
    """The dtype in which the engine computes the model here; None if the engine does not choose one.

    Args:
        model: the job's section, or a judge's.
        checkpoint: the dtype of the model's files.
        recorded: the dtype in which a run is continued; None for a new run.

    Raises:
        ModelError: there is no folder for the measurement that the choice depends on.
        ResourceError: the engine's libraries cannot be imported.
        UsageError: an unknown engine.
    """
    choose = find_engine(model.engine).choose_dtype
    return choose(model, checkpoint=checkpoint, recorded=recorded) if choose else None


def identify_model(
    model: ModelSpec, use: ModelUse, report: Callable[[str], None]
) -> Mapping[str, object]:
    """What decides the answers of a model that is not on this machine, as plain values; empty for one that is.

    Raises:
        JobKeyError: a setting of the job has no effect.
        ModelError: a server rejects the job.
        UnavailableError: a server cannot be reached.
        UsageError: an unknown engine.
    """
    identify = find_engine(model.engine).identify
    return identify(model, use, report) if identify else {}


def check_engine_adapter(model: ModelSpec, folder: Path) -> None:
    """Check that the model in `folder` can have the adapter in the folder `model.adapter`, if the engine can check it before it is opened.

    Raises:
        AdapterError: it does not fit.
        ModelError: the model's config cannot be read.
        ResourceError: the engine's libraries cannot be imported.
    """
    if check := find_engine(model.engine).check_adapter:
        check(model, folder=folder)


def open_engine(
    model: ModelSpec,
    *,
    folder: Path | None,
    batching: Batching,
    workers: int | Auto = "auto",
    decode: AnswerDecoder,
    should_stop: Callable[[], bool],
) -> Engine:
    """Open the engine that `model.engine` names; see `OpenEngine` for the arguments.

    Raises:
        ModelError: the model cannot be loaded.
        ResourceError: no such device, or not enough memory.
        UsageError: an unknown engine, or more workers than GPUs.
    """
    open_it = find_engine(model.engine).open
    return open_it(
        model,
        folder=folder,
        batching=batching,
        workers=workers,
        decode=decode,
        should_stop=should_stop,
    )


def estimate_engine(
    model: ModelSpec, *, folder: Path | None, batching: Batching, workers: int | Auto
) -> Estimate:
    """What the engine would need, without loading a weight.

    Raises:
        ModelError: the model's config cannot be read.
        ResourceError: no such device, or not enough memory.
        UsageError: an unknown engine, or more workers than GPUs.
    """
    entry = find_engine(model.engine)
    if entry.estimate is None:
        limits = batch_limits(batching, _DEFAULT_BUDGET)
        return Estimate("none", limits, Workers(1, f"engine {model.engine}"))
    return entry.estimate(model, folder=folder, batching=batching, workers=workers)
