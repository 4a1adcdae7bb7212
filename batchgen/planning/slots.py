"""From free memory to how much runs together under continuous batching.

    bytes = step tokens x activations  +  rows x logits  +  pages x page size x KV

Unlike a batch, a row takes the memory of the tokens that it has, not of the longest row's. Plain arithmetic.
"""

from dataclasses import dataclass

from batchgen.errors import ResourceError
from batchgen.job.spec import Batching
from batchgen.planning.budget import Device, ModelMemory

ROWS: dict[Device, int] = {"cpu": 256, "cuda": 512}
"""Most rows at a time. More rows make products larger and never cost a row that is there, until memory ends."""

STEP_TOKENS: dict[Device, int] = {"cpu": 512, "cuda": 8192}
"""Most tokens of a prefill step: products are as fast as they get, and activations still lie in cache."""

PAGE_TOKENS = 64
_FEWEST_PAGES = 4


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """How much runs together.

    Attributes:
        rows: most rows at a time.
        step_tokens: most tokens of a prefill step.
        pages: of keys and values.
        page_size: tokens in a page.
    """

    rows: int
    step_tokens: int
    pages: int
    page_size: int


def plan_slots(memory: ModelMemory, *, room: int, device: Device, batching: Batching) -> SlotPlan:
    """The rows and pages that fit.

    Args:
        memory: what the model takes; its weights are loaded.
        room: bytes that may be planned for.
        device: the kind of device.
        batching: the job's own numbers go first.

    Raises:
        ResourceError: not even a short row fits.
    """
    rows = ROWS[device] if batching.max_rows == "auto" else batching.max_rows
    step = STEP_TOKENS[device]
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
    return SlotPlan(rows, step, pages, PAGE_TOKENS)


def _pages(memory: ModelMemory, room: int, rows: int, step: int) -> int:
    activations = memory.batch_bytes(rows, 0) + step * memory.activation_bytes_per_token
    return (room - activations) // (PAGE_TOKENS * max(1, memory.kv_bytes_per_token))
