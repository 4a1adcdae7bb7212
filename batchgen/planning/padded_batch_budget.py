"""Rows and tokens of a padded batch that fit in free memory. Continuous batching: `kv_cache_plan.py`.

    bytes(rows, tokens) = tokens x (KV + activations) + rows x (state + logits)
    budget              = the largest tokens, at a useful number of rows, whose bytes fit

All sizes are bytes.
"""

from dataclasses import dataclass, replace
from typing import Literal

from batchgen.errors import ResourceError
from batchgen.job.spec import Batching
from batchgen.planning.batches import BatchLimits

Device = Literal["cpu", "cuda"]

USEFUL_ROWS: dict[Device, int] = {"cpu": 64, "cuda": 256}
"""Rows beyond which a decode step gains little.

A step streams all weights once and does the arithmetic of each row, so its cost per row falls until the arithmetic
takes as long as the streaming: B* = P s F / (W f_d), which is F/W in half precision and 2 F/W in float32 whatever
the model (F flop/s, W bytes/s). Two AVX2 cores: 140 GFLOP/s over 20 GB/s, B* = 14; at 64 rows the weights are a
sixth of a step, and more rows only make a batch wait longer for its longest answer. An H100: B* = 300.
"""
_HOST_SHARE = 0.75
"""Share of host memory that is planned with; the rest is for the reader, the writer and the page cache."""
_MIN_TOKENS = 256


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """The memory that a model takes.

    Attributes:
        weight_bytes: of weights that are not loaded yet.
        kv_bytes_per_token: sum over layers of cached key and value widths x item size.
        activation_bytes_per_token: at the peak of a prefill; see `activation_bytes`.
        vocab_size: width of the logits.
        state_bytes_per_row: of recurrent and convolution states, whatever the row's length.
    """

    weight_bytes: int
    kv_bytes_per_token: int
    activation_bytes_per_token: int
    vocab_size: int
    state_bytes_per_row: int = 0

    def loaded(self) -> "ModelMemory":
        """The same with its weights loaded."""
        return replace(self, weight_bytes=0)

    def batch_bytes(self, rows: int, tokens: int) -> int:
        """Bytes of a batch with `tokens` tokens in total, prompts and answers; weights excluded.

        Logits count four times in float32: raw, scaled or penalised, exponentials, and one spare.
        """
        per_row = self.state_bytes_per_row + 4 * 4 * self.vocab_size
        per_token = max(1, self.kv_bytes_per_token + self.activation_bytes_per_token)
        return rows * per_row + tokens * per_token


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a batch: rows, and rows x (longest prompt + max_new_tokens)."""

    rows: int
    tokens: int


def activation_bytes(*, hidden: int, intermediate: int, attention: int, item: int) -> int:
    """Activations of one token at the peak of a prefill: item x (6 H + 3 I + A).

    Residual stream, norm and their casts (6 H), gate, up and their product (3 I), queries, keys and values (A).
    An estimate for decoders with gated feed-forward layers; others take less.

    Args:
        hidden: H, width of the residual stream.
        intermediate: I, width of the feed-forward layer.
        attention: A = (query heads + 2 x key heads) x head width.
        item: bytes of one number.
    """
    return item * (6 * hidden + 3 * intermediate + attention)


def compute_budget(
    memory: ModelMemory, *, free_bytes: int, fraction: float, device: Device
) -> Budget:
    """The largest batch that fits, with the device's useful number of rows, or fewer if memory is short.

    Raises:
        ResourceError: weights and one short row do not fit.
    """
    plannable = plannable_bytes(free_bytes, fraction, device)
    available = plannable - memory.weight_bytes
    rows = USEFUL_ROWS[device]
    while rows > 1 and memory.batch_bytes(rows, rows * _MIN_TOKENS) > available:
        rows //= 2
    tokens = (available - memory.batch_bytes(rows, 0)) // memory.batch_bytes(0, 1)
    if tokens < _MIN_TOKENS:
        needed = memory.weight_bytes + memory.batch_bytes(1, _MIN_TOKENS)
        raise ResourceError(
            f"not enough memory on {device}: {_mb(free_bytes)} free, of which {_mb(plannable)} "
            f"are usable; the model and one short row need {_mb(needed)}",
            hint="Free memory, choose a smaller model or dtype, or raise batching.memory_fraction.",
        )
    return Budget(rows, tokens)


def plannable_bytes(free_bytes: int, fraction: float, device: Device) -> int:
    """The usable share of the free bytes: `fraction` is `batching.memory_fraction`; on "cpu" three quarters of it."""
    return int(free_bytes * (fraction if device == "cuda" else fraction * _HOST_SHARE))


def batch_limits(batching: Batching, automatic: Budget) -> BatchLimits:
    """The job's own numbers where it sets them, else the automatic ones."""
    return BatchLimits(
        automatic.rows if batching.max_rows == "auto" else batching.max_rows,
        automatic.tokens if batching.max_tokens == "auto" else batching.max_tokens,
        batching.sort,
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
