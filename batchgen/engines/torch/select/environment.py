"""All that a trial's outcome may depend on, as plain words: equal words, equal outcome.

    the model's files as they lie there   size, times, inode: no program can change a file and keep its ctime
    the job's settings about the model    format, attention, device; whether weights are packed
    this program                          every source file of batchgen; packages by version, torch by its build
    this machine                          processor with its features, GPU, threads, variables that libraries read

Found without loading a weight, so that `plan` knows them too.
"""

import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import transformers

import batchgen
from batchgen.engines.torch.model_files import ModelFiles, _hashed

_READ_BY_LIBRARIES = (
    "ATEN_",
    "CUBLAS_",
    "CUDA_",
    "CUDNN_",
    "DNNL_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "NUMBA_",
    "NVIDIA_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTORCH_",
    "TORCH_",
    "TRANSFORMERS_",
)


@dataclass(frozen=True, slots=True)
class ComputeSettings:
    """How a model is computed.

    Attributes:
        packed: whether there is a packed copy of the weights.
        fastest: the tier with which the search begins.
    """

    device: torch.device
    dtype: torch.dtype
    packed: bool
    fastest: str


def environment_key(files: ModelFiles, computing: ComputeSettings) -> Mapping[str, str]:
    """Everything that decides what trials of this model find out."""
    spec = files.spec
    return {
        "files": files.listing,
        "config": _config(files.folder),
        "settings": f"{spec.dtype}, attention {spec.attn_implementation}",
        "computing": f"{computing.dtype} on {computing.device}, packed {computing.packed}, "
        f"from {computing.fastest}, {torch.get_num_threads()} threads",
        "switches": f"{torch.get_float32_matmul_precision()} {torch.get_default_dtype()} "
        f"{torch.are_deterministic_algorithms_enabled()} {torch.backends.mkldnn.enabled}",
        "gpu": _gpu(computing.device),
        "user": str(os.geteuid()),
        "environment": _hashed(
            f"{name}={value}"
            for name, value in sorted(os.environ.items())
            if name.startswith(_READ_BY_LIBRARIES)
        ),
        **_program(),
    }


@cache
def _program() -> Mapping[str, str]:
    """What does not change while a process runs."""
    package = Path(batchgen.__file__).parent
    return {
        "batchgen": _hashed(
            f"{file.relative_to(package)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}"
            for file in sorted(package.rglob("*.py"))
        ),
        "torch": f"{torch.__version__} {_hashed([torch.__config__.show()])}",
        "transformers": transformers.__version__,
        "packages": _hashed(_packages()),
        "python": sys.version,
        "processor": _hashed(_processor()),
    }


def _packages() -> list[str]:
    """What is installed beside transformers, with versions: it uses some packages where it finds them."""
    return sorted(one.name for one in Path(transformers.__file__).parents[1].glob("*.dist-info"))


def _config(folder: Path) -> str:
    file = folder / "config.json"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "none"


def _gpu(device: torch.device) -> str:
    """Was never run on a GPU."""
    return str(torch.cuda.get_device_properties(device)) if device.type == "cuda" else "none"


def _processor() -> Iterator[str]:
    """Name and features of the processor, as Linux tells them; elsewhere what Python knows."""
    yield platform.machine()
    yield platform.processor()
    yield torch.backends.cpu.get_cpu_capability()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags", "features", "cache size")
    yield from sorted({line for line in lines if line.lower().startswith(wanted)})
