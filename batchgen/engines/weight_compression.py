"""Rejects a checkpoint whose weights are compressed by a method that the engine cannot compute with."""

from pathlib import Path

from batchgen.engines.engine_registry import ENGINES, find_engine
from batchgen.errors import ModelError
from batchgen.job.spec import ModelSpec

_PROGRAMS = {
    "OpenVINO": frozenset({"awq", "gptq", "openvino"}),
}
"""Programs that run such checkpoints by themselves, for methods that no engine here can load."""


def check_compression(model: ModelSpec, method: str | None, file: Path) -> None:
    """Check that the engine of `model` can load weights compressed by `method`.

    Args:
        model: the job's section, or a judge's.
        method: as the model's files name it; None for plain numbers.
        file: the file that names it.

    Raises:
        ModelError: it cannot; the hint names the engine that can, or a program.
        UsageError: an unknown engine.
    """
    info = find_engine(model.engine).info
    if method is None or info.needs != "weights" or method in info.compressed_weights:
        return
    if info.weight_format == "openvino":  # the graph decompresses them, whatever made them
        return
    raise ModelError(
        f"{file}: the weights are compressed by {method}, which engine {info.name} cannot compute with; "
        "expected float32, float16 or bfloat16",
        hint=_hint(method),
    )


def _hint(method: str) -> str:
    engines = [e.info.name for e in ENGINES.values() if method in e.info.compressed_weights]
    if engines:
        return (
            f"Set model.engine: {' or '.join(engines)}, or give the checkpoint before compression."
        )
    programs = [name for name, methods in _PROGRAMS.items() if method in methods]
    if not programs:
        return "Give the checkpoint before compression."
    one_of = "these programs run" if len(programs) > 1 else "this program runs"
    return f"Give the checkpoint before compression; outside batchgen, {one_of} it: {', '.join(programs)}."
