"""Rows and tokens of a padded batch that fit in free memory.

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

A step reads all weights once and computes each row, so its cost per row falls until the computation takes as long
as the reading: B* = P s F / (W f_d), which is F/W in half precision and 2 F/W in float32 whatever
the model (F flop/s, W bytes/s). Two AVX2 cores: 140 GFLOP/s over 20 GB/s, B* = 14; at 64 rows the weights are a
sixth of a step, and with more rows a batch only waits longer for its longest answer. An H100: B* = 300.
"""

_HOST_SHARE = 0.75
"""Usable share of host memory: the reader, the writer and the page cache need the rest."""

_FEWEST_TOKENS = 256
"""Fewest tokens of a useful batch."""


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """Memory of a model.

    Attributes:
        weight_bytes: weights that are not loaded yet; 0 afterwards.
        kv_bytes_per_token: sum over layers of cached key and value widths x item size.
        activation_bytes_per_token: at the peak of a prefill; see `activation_bytes`.
        vocab_size: width of the logits.
        state_bytes_per_row: size of a row's recurrent and convolution states, independent of its length.
    """

    weight_bytes: int
    kv_bytes_per_token: int
    activation_bytes_per_token: int
    vocab_size: int
    state_bytes_per_row: int = 0

    def loaded(self) -> "ModelMemory":
        """The same with loaded weights."""
        return replace(self, weight_bytes=0)

    def batch_bytes(self, rows: int, tokens: int) -> int:
        """Memory of a batch with `rows` rows and `tokens` tokens of prompts and answers, without weights.

        Logits are counted four times in float32: raw, scaled or penalised, exponentials, and one spare.
        """
        per_row = self.state_bytes_per_row + 4 * 4 * self.vocab_size
        return rows * per_row + tokens * self._per_token

    @property
    def _per_token(self) -> int:
        return max(1, self.kv_bytes_per_token + self.activation_bytes_per_token)


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
    """The largest batch that fits, with the useful number of rows for the device, or fewer if memory is short.

    Args:
        memory: of the model.
        free_bytes: memory that is free on the device now.
        fraction: `batching.memory_fraction`.
        device: on "cpu" only three quarters of the fraction are used.

    Raises:
        ResourceError: weights and one short row do not fit.
    """
    room = plannable_bytes(free_bytes, fraction, device) - memory.weight_bytes
    rows = USEFUL_ROWS[device]
    while rows > 1 and memory.batch_bytes(rows, rows * _FEWEST_TOKENS) > room:
        rows //= 2
    tokens = (room - memory.batch_bytes(rows, 0)) // memory.batch_bytes(0, 1)
    if tokens < _FEWEST_TOKENS:
        needed = memory.weight_bytes + memory.batch_bytes(1, _FEWEST_TOKENS)
        raise ResourceError(
            f"not enough memory on {device}: {_mb(free_bytes)} free, of which "
            f"{_mb(plannable_bytes(free_bytes, fraction, device))} "
            f"are usable; the model and one short row need {_mb(needed)}",
            hint="Free memory, choose a smaller model or dtype, or raise batching.memory_fraction.",
        )
    return Budget(rows, tokens)


def plannable_bytes(free_bytes: int, fraction: float, device: Device) -> int:
    """Usable share of the free bytes: on "cpu" three quarters of the fraction."""
    return int(free_bytes * (fraction if device == "cuda" else fraction * _HOST_SHARE))


def batch_limits(batching: Batching, automatic: Budget) -> BatchLimits:
    """The numbers of the job if given, otherwise the automatic ones."""
    return BatchLimits(
        automatic.rows if batching.max_rows == "auto" else batching.max_rows,
        automatic.tokens if batching.max_tokens == "auto" else batching.max_tokens,
        batching.sort,
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
