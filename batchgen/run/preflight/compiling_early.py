"""Compiles what the engine needs while the model is converted."""

from contextlib import AbstractContextManager, nullcontext

from batchgen.engines.early_compilation import AttentionHeads
from batchgen.engines.engine_registry import ENGINES
from batchgen.job.spec import ModelSpec
from batchgen.models.pending_conversion import heads_of_pending_conversion
from batchgen.storage.cache_folder import cache_folder


def compiling_early(model: ModelSpec) -> AbstractContextManager[None]:
    """For the duration of a run: a process that compiles, if the model will be converted and its engine compiles."""
    engine = ENGINES.get(model.engine)  # an unknown one is reported with the job's other errors
    compile_early = engine and engine.compile_early
    heads = compile_early and heads_of_pending_conversion(model.path, cache_folder())
    if not compile_early or not heads:
        return nullcontext()
    queries, keys, width = heads
    return compile_early(model, AttentionHeads(queries // keys, width))
