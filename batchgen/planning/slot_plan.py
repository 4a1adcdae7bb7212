"""From free memory to how much runs together under continuous batching.

    bytes = step tokens x activations  +  rows x logits  +  (pages x page size  +  arena) x KV

Unlike a batch, a row takes the memory of the tokens that it has, not of the longest row's. Plain arithmetic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from batchgen.errors import ResourceError, UsageError
from batchgen.job.spec import Batching
from batchgen.planning.budget import Device, ModelMemory

ROWS: dict[Device, int] = {"cpu": 256, "cuda": 512}
"""Most rows at a time. More rows make products larger and never cost a row that is there, until memory ends."""

STEP_TOKENS: dict[Device, int] = {"cpu": 1024, "cuda": 8192}
"""Most tokens of a prefill step, for each worker: fewer are up to a tenth slower on a CPU, more no faster."""

PAGE_TOKENS = 64
_ARENA_SHARE = 5
"""One page in so many is set apart for shared prefixes."""
_MOST_WORKERS = 8
"""Of which each then has several threads: a part of a step should keep some dozen rows."""
_FEWEST_PAGES = 4


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """How much runs together.

    Attributes:
        rows: most rows at a time.
        step_tokens: most tokens of a prefill step.
        pages: of keys and values.
        page_size: tokens in a page.
        arena: tokens of shared prefixes.
    """

    rows: int
    step_tokens: int
    pages: int
    page_size: int
    arena: int


@dataclass(frozen=True, slots=True)
class Workers:
    """How many processes compute side by side, and why so many.

    Attributes:
        gpus: those that they take, one each, as values of `model.device`; none on a CPU.
    """

    count: int
    reason: str
    gpus: tuple[str, ...] = ()


def plan_slots(
    memory: ModelMemory, *, room: int, device: Device, batching: Batching, workers: int = 1
) -> SlotPlan:
    """The rows and pages that fit, and room for prefixes.

    Args:
        memory: what the model takes; its weights are loaded.
        room: bytes that may be planned for.
        device: the kind of device.
        batching: the job's own numbers go first.
        workers: processes that share a step, each with as many tokens as one alone would have.

    Raises:
        ResourceError: not even a short row fits.
    """
    rows = ROWS[device] if batching.max_rows == "auto" else batching.max_rows
    step = STEP_TOKENS[device] * workers
    while rows * step > 1 and _pages(memory, room, rows, step) < max(_FEWEST_PAGES, rows):
        rows, step = max(1, rows // 2), max(1, step // 2)
    pages = _pages(memory, room, rows, step)
    if pages < _FEWEST_PAGES:
        raise ResourceError(
            f"not enough memory on {device}: of {room / 1e6:,.0f} MB that may be planned for, nothing is left "
            "for the keys and values of a short row",
            hint="free memory, choose a smaller model or dtype, or raise batching.memory_fraction",
        )
    if batching.max_tokens != "auto":
        pages = min(pages, max(1, batching.max_tokens // PAGE_TOKENS))
    arena = pages // _ARENA_SHARE
    return SlotPlan(rows, step, pages - arena, PAGE_TOKENS, arena * PAGE_TOKENS)


def choose_workers(
    asked: int | Literal["auto"], *, threads: int, gpus: Sequence[str] = ()
) -> Workers:
    """How many processes compute side by side.

    Args:
        asked: `run.workers`.
        threads: that this process may compute with.
        gpus: that the model may be computed on; none where that is a CPU's work.

    Raises:
        UsageError: more than there are GPUs.
    """
    if gpus:
        return _one_per_gpu(asked, gpus)
    if asked != "auto":
        return Workers(asked, "run.workers")
    count = min(threads, _MOST_WORKERS)
    return Workers(count, f"auto: one a core, at most {_MOST_WORKERS}")


def _one_per_gpu(asked: int | Literal["auto"], gpus: Sequence[str]) -> Workers:
    if asked == "auto":
        return Workers(len(gpus), "auto: one a GPU", tuple(gpus))
    if asked > len(gpus):
        raise UsageError(
            f"run.workers: {asked}, but each takes a GPU of its own, and there are {len(gpus)} "
            f"for this model: {', '.join(gpus)}",
            hint="run.workers: auto takes all that model.device allows: cuda all that are visible, cuda:1 that one",
        )
    return Workers(asked, "run.workers", tuple(gpus[:asked]))


def _pages(memory: ModelMemory, room: int, rows: int, step: int) -> int:
    activations = memory.batch_bytes(rows, 0) + step * memory.activation_bytes_per_token
    return (room - activations) // (PAGE_TOKENS * max(1, memory.kv_bytes_per_token))
