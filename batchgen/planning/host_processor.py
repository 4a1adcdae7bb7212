"""The processor of this machine: its name and what it can do, from /proc/cpuinfo."""

from dataclasses import dataclass
from pathlib import Path

BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Flags of processors that multiply bfloat16 numbers themselves, the faster first."""


@dataclass(frozen=True, slots=True)
class HostProcessor:
    """A processor; `name` is empty and there are no `flags` on systems without /proc."""

    name: str
    flags: frozenset[str]

    @property
    def bfloat16_flags(self) -> tuple[str, ...]:
        return tuple(flag for flag in BFLOAT16_FLAGS if flag in self.flags)


def read_processor(root: Path = Path("/")) -> HostProcessor:
    """The first processor that is listed; `root` is the folder that contains proc."""
    try:
        lines = (root / "proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:  # other systems than Linux
        lines = []
    values: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        values.setdefault(name.strip(), value.strip())
    return HostProcessor(values.get("model name", ""), frozenset(values.get("flags", "").split()))
