"""From the job's `model` section to an engine: the only place that knows them all.

Each engine is imported here, inside the function, so that nobody pays for one that is not used.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from batchgen.engines.contract import Decode, Engine, Estimate
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.budget import Budget, batch_limits
from batchgen.planning.slot_plan import Workers
from batchgen.section import Auto

_ECHO_BUDGET = Budget(rows=64, tokens=65_536)
"""What echo plans with, so that `plan` has batches to show."""


def open_engine(
    model: ModelSpec,
    *,
    folder: Path | None,
    batching: Batching,
    workers: int | Auto = "auto",
    decode: Decode,
    should_stop: Callable[[], bool],
) -> Engine:
    """Open the engine that the job asks for; a model's weights are loaded here.

    Several GPUs are used by a process each. Was never run on a GPU.

    Args:
        model: the job's section.
        folder: where the model lies; None only for echo without a model.
        batching: how much may be put together.
        workers: `run.workers`.
        decode: token ids to text; pickled where there are several GPUs.
        should_stop: asked between steps.

    Raises:
        ModelError: the model cannot be loaded.
        ResourceError: no such device, or not enough memory.
        UsageError: more workers than GPUs.
    """
    if model.engine == "echo" or folder is None:
        from batchgen.engines.echo import EchoEngine

        return EchoEngine(decode)
    from batchgen.engines.torch import open_torch_engine, torch_workers

    chosen = torch_workers(model, workers)
    if len(chosen.gpus) > 1:
        from batchgen.engines.replicas.replicated_engine import open_replicas

        opening = partial(open_engine, folder=folder, workers=1, decode=decode)
        return open_replicas(chosen, model, opening, batching=batching, should_stop=should_stop)
    return open_torch_engine(
        folder, model, batching=batching, workers=workers, decode=decode, should_stop=should_stop
    )


def estimate_engine(
    model: ModelSpec, *, folder: Path | None, batching: Batching, workers: int | Auto
) -> Estimate:
    """What the engine would take, without loading a weight.

    Raises:
        ModelError: the model's config cannot be read.
        ResourceError: no such device, or not enough memory.
        UsageError: more workers than GPUs.
    """
    if model.engine == "echo" or folder is None:
        alone = Workers(1, "engine echo")
        return Estimate("none", "none", 0, 0, 0, batch_limits(batching, _ECHO_BUDGET), alone)
    from batchgen.engines.torch import estimate_torch_engine

    return estimate_torch_engine(folder, model, batching=batching, workers_asked=workers)
