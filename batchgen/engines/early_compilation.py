"""What an engine compiles while its model is converted: with two cores the run then does not wait for it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from batchgen.job.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class AttentionHeads:
    """The heads of a model's attention that compiled code depends on: query heads per kv head, and numbers of a key."""

    group: int
    width: int


class CompileEarly(Protocol):
    """Compiles in a process of its own, which ends with the block at the latest; a failure only costs time later."""

    def __call__(self, model: ModelSpec, heads: AttentionHeads, /) -> AbstractContextManager[None]:
        """Start the process; the block is entered at once."""
