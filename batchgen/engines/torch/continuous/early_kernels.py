"""Starts the process that compiles kernels while the model is converted (`forward/kernels/compile_early.py`)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec

from batchgen.engines.early_compilation import AttentionHeads
from batchgen.job.spec import ModelSpec

_MODULE = "batchgen.engines.torch.continuous.forward.kernels.compile_early"


@contextmanager
def compile_kernels_early(model: ModelSpec, heads: AttentionHeads) -> Iterator[None]:
    """Let another process fill numba's cache on disk with the kernels of a float32 model on a CPU during the block.

    numba holds the GIL while it compiles, so that a thread would not help. A run that needs a kernel which the process is
    compiling waits for that kernel's lock, and compiles one that is not begun itself.
    """
    suits = model.dtype in ("auto", "float32") and model.device in ("auto", "cpu")
    if not suits or find_spec("numba") is None:
        yield
        return
    command = [sys.executable, "-m", _MODULE, str(heads.group), str(heads.width)]
    process = None
    with suppress(OSError):  # no more processes are allowed: the kernels are compiled later
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()
