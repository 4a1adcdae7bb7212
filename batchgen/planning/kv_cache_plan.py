"""The KV cache of continuous batching: rows and pages that fit in free memory. Padded batches: `padded_batch_budget.py`.

    bytes = step tokens x activations  +  rows x logits  +  (pages x page size  +  arena) x KV

Unlike in a padded batch, a row needs memory for its own tokens only, not for those of the longest row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from batchgen.errors import ResourceError, UsageError
from batchgen.job.spec import Batching
from batchgen.planning.padded_batch_budget import Device, ModelMemory
from batchgen.section import Auto

ROWS: dict[Device, int] = {"cpu": 256, "cuda": 512}
"""Most rows at a time. More rows make products larger at no cost for the others, while memory suffices."""
PREFILL_TOKENS: dict[Device, int] = {"cpu": 1024, "cuda": 8192}
"""Most tokens of a prefill step, per worker: fewer are up to a tenth slower on a CPU, more are not faster."""
PAGE_TOKENS = 64
PROBE_PAGE_TOKENS = 4
"""Tokens of a page while a forward pass is probed, so that short prompts have several pages."""
_ARENA_SHARE = 5
"""One page in so many is reserved for shared prefixes."""
_MAX_WORKERS = 8
"""Most workers; with more cores each has several threads, so that a part of a step has some dozen rows."""
_MIN_PAGES = 4


@dataclass(frozen=True, slots=True)
class KvCachePlan:
    """Limits of what runs together.

    Attributes:
        step_tokens: most tokens of a prefill step.
        pages: number of pages of keys and values, of `page_size` tokens each.
        arena: tokens of shared prefixes.
    """

    rows: int
    step_tokens: int
    pages: int
    page_size: int
    arena: int


@dataclass(frozen=True, slots=True)
class Workers:
    """Number of parallel processes and its reason.

    Attributes:
        gpus: one per process, as values of `model.device`; empty on a CPU.
    """

    count: int
    reason: str
    gpus: tuple[str, ...] = ()


def plan_kv_cache(
    memory: ModelMemory,
    *,
    available_bytes: int,
    device: Device,
    batching: Batching,
    workers: int = 1,
) -> KvCachePlan:
    """The rows, pages and prefix tokens that fit, for a model with its weights loaded.

    Numbers of the job take precedence. `workers` processes share a step; its token limit is multiplied by their number.

    Raises:
        ResourceError: not even a short row fits.
    """

    def count_pages(rows: int, step: int) -> int:
        activations = memory.batch_bytes(rows, 0) + step * memory.activation_bytes_per_token
        return (available_bytes - activations) // (PAGE_TOKENS * max(1, memory.kv_bytes_per_token))

    rows = ROWS[device] if batching.max_rows == "auto" else batching.max_rows
    step = PREFILL_TOKENS[device] * workers
    while rows * step > 1 and count_pages(rows, step) < max(_MIN_PAGES, rows):
        rows, step = max(1, rows // 2), max(1, step // 2)
    pages = count_pages(rows, step)
    if pages < _MIN_PAGES:
        raise ResourceError(
            f"not enough memory on {device}: {available_bytes / 1e6:,.0f} MB are usable, too little "
            "for the keys and values of a short row",
            hint="Free memory, choose a smaller model or dtype, or raise batching.memory_fraction.",
        )
    if batching.max_tokens != "auto":
        pages = min(pages, max(1, batching.max_tokens // PAGE_TOKENS))
    arena = pages // _ARENA_SHARE
    return KvCachePlan(rows, step, pages - arena, PAGE_TOKENS, arena * PAGE_TOKENS)


def choose_workers(requested: int | Auto, *, threads: int, gpus: Sequence[str] = ()) -> Workers:
    """Number of parallel processes.

    Args:
        requested: `run.workers`.
        threads: of this process.
        gpus: usable GPUs; empty on a CPU.

    Raises:
        UsageError: more workers than GPUs.
    """
    if gpus and requested == "auto":
        return Workers(len(gpus), "auto: one per GPU", tuple(gpus))
    if requested == "auto":
        count = min(threads, _MAX_WORKERS)
        return Workers(count, f"auto: one per core, at most {_MAX_WORKERS}")
    if gpus and requested > len(gpus):
        raise UsageError(
            f"run.workers: {requested}, but each worker needs its own GPU, and this model can use {len(gpus)}: "
            f"{', '.join(gpus)}",
            hint="Set run.workers: auto. model.device: cuda uses all visible GPUs, cuda:1 only that one.",
        )
    return Workers(requested, "run.workers", tuple(gpus[:requested]))
