"""Python, processor, memory, and torch with its devices."""

import os
import platform
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from batchgen.doctor.finding import Finding, problem
from batchgen.errors import is_out_of_memory
from batchgen.planning.host_memory import free_host_memory
from batchgen.planning.host_processor import read_processor

LITTLE_MEMORY = 4 << 30
"""Bytes; a model of half a billion parameters in float32 needs about as many."""
_NEEDS_TORCH = "Install it: pip install 'torch>=2.10'."


def check_python() -> Iterator[Finding]:
    """The interpreter and the system."""
    text = (
        f"{platform.python_version()} · {sys.executable} · {platform.system()} {platform.machine()}"
    )
    yield Finding("python", "ok", text)


def check_processor() -> Iterator[Finding]:
    """The processor's units for products, and the cores that this process may use."""
    processor = read_processor()
    name = processor.name or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if units := processor.bfloat16_flags:
        text = f"bfloat16 units ({units[0]})"
    elif "avx2" in processor.flags:
        text = "avx2, no bfloat16 units: models are computed in float32"
    else:
        text = "neither avx2 nor bfloat16 units"
    yield Finding("processor", "ok", f"{name} · {cores} cores for this process · {text}")
    if threads := os.environ.get("OMP_NUM_THREADS"):
        text = f"OMP_NUM_THREADS={threads} limits torch to that many threads"
        yield Finding("threads", "note", text, "Unset OMP_NUM_THREADS to use every core.")


def check_memory() -> Iterator[Finding]:
    """Free memory, the limits of control groups and of the process included."""
    free = free_host_memory()
    text = f"{free / 1e9:,.1f} GB free"
    if free < LITTLE_MEMORY:
        fix = "Stop other programs, or raise the memory limit of the container."
        yield Finding("memory", "note", f"{text}: enough for small models only", fix)
    else:
        yield Finding("memory", "ok", text)


def check_torch() -> Iterator[Finding]:
    """The version of torch, its threads and devices."""
    try:
        torch: Any = import_module("torch")
    except Exception as error:  # noqa: BLE001  a broken installation fails in many ways
        yield problem("torch", _reason(error), _NEEDS_TORCH)
        return
    yield Finding("torch", "ok", f"{torch.__version__} · {torch.get_num_threads()} threads")
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    if names:
        yield Finding("gpu", "ok", f"{len(names)} x {names[0]}")
    elif torch.version.cuda and Path("/dev/nvidia0").exists():
        text = f"a GPU is present, but torch (built for CUDA {torch.version.cuda}) cannot use it"
        fix = "Update the driver, or install the torch build for its CUDA version."
        yield problem("gpu", text, fix)
    else:
        yield Finding("gpu", "ok", "none: models are computed on the processor")


def check_kernels() -> Iterator[Finding]:
    """numba, with which attention and small steps are compiled."""
    try:
        numba: Any = import_module("numba")
    except Exception as error:  # noqa: BLE001  it fails with a numpy that is newer than itself, and in other ways
        fix = (
            "Install it: pip install -U numba. Until then torch computes these steps, more slowly."
        )
        yield Finding("kernels", "note", _reason(error), fix)
        return
    if numba.config.DISABLE_JIT:
        yield Finding("kernels", "note", "NUMBA_DISABLE_JIT is set", "Unset NUMBA_DISABLE_JIT.")
        return
    yield Finding("kernels", "ok", f"numba {numba.__version__}")


def _reason(error: Exception) -> str:
    if is_out_of_memory(error):
        return "cannot be imported: no memory is left"
    lines = str(error).splitlines() or [""]
    return f"cannot be imported: {type(error).__name__}: {lines[0]}"[:200]
