"""The engines that `model.engine` can name: one entry each. Importing this file imports no library of an engine."""

from collections.abc import Callable
from pathlib import Path

from batchgen.engines.contract import Decode, Engine, EngineEntry, Estimate
from batchgen.engines.echo import ECHO
from batchgen.engines.torch.entry import TRANSFORMERS
from batchgen.errors import UsageError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.kv_cache_plan import Workers
from batchgen.planning.padded_batch_budget import Budget, batch_limits
from batchgen.section import Auto

ENGINES: dict[str, EngineEntry] = {entry.info.name: entry for entry in (TRANSFORMERS, ECHO)}
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


def requires_weights(model: ModelSpec) -> bool:
    """Whether `model.path` must have weights: False if the engine needs only the tokenizer.

    An engine that needs nothing stands in for another one: a model that its job names must be complete.

    Raises:
        UsageError: an unknown engine.
    """
    return find_engine(model.engine).info.needs != "tokenizer"


def open_engine(
    model: ModelSpec,
    *,
    folder: Path | None,
    batching: Batching,
    workers: int | Auto = "auto",
    decode: Decode,
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
