"""The next token of each row from its logits: greedy, or sampled with one uniform number per row.

    greedy              argmax of the raw logits
    top_k or top_p      the most likely tokens in order, cumulated until the uniform is passed
    anything else       all tokens in order of their ids, cumulated until the uniform is passed

Temperature, top_k, top_p and min_p apply in transformers' order and keep the same tokens. The kept tokens and the
sampled one depend on the row alone: rows are grouped by their own settings and logits, and no operation mixes rows,
so a row gets the same token in any batch. Of tokens with equal logits the lower id ranks first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from batchgen.records import ResolvedDecoding

_WIDTHS = (64, 512, 4096)
"""Numbers of tokens to try before all are sorted. 64 suffice for top_k 50 and, at most steps, for top_p 0.9."""

_BLOCK = 256
_MAX_TOP_K = 2**31
_COLDEST = 1e-4
"""Lower temperatures are treated as this one: a logit 0.01 below the highest then has weight e^-100."""


@dataclass(frozen=True, slots=True)
class Draw:
    """The chosen tokens.

    Attributes:
        tokens: int64 [rows]; meaningless where `finite` is False.
        finite: bool [rows], False where the logits contain NaN or +inf, or are all -inf.
    """

    tokens: Tensor
    finite: Tensor


@dataclass(frozen=True, slots=True)
class Sampler:
    """The sampling settings of each row of a batch, as tensors.

    Attributes:
        temperature: float64 [rows], 0 is greedy, else at least 0.0001.
        top_k: int64 [rows], 0 keeps all.
        top_p: float64 [rows], 1 keeps all.
        min_p: float64 [rows], 0 keeps all.
        greedy: whether every row is greedy; then uniforms are ignored.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    greedy: bool

    @classmethod
    def of(cls, settings: Sequence[ResolvedDecoding], device: torch.device | str = "cpu") -> Self:

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        return cls(
            column([max(s.temperature, _COLDEST) if s.temperature else 0.0 for s in settings]),
            torch.tensor(
                [min(s.top_k, _MAX_TOP_K) for s in settings], dtype=torch.int64, device=device
            ),
            column([s.top_p for s in settings]),
            column([s.min_p for s in settings]),
            all(s.greedy for s in settings),
        )

    def select(self, rows: Tensor) -> Self:
        """The settings of these rows (int64 indices), in this order."""
        return replace(
            self,
            temperature=self.temperature[rows],
            top_k=self.top_k[rows],
            top_p=self.top_p[rows],
            min_p=self.min_p[rows],
        )

    def draw(self, logits: Tensor, uniforms: Tensor) -> Draw:
        """Choose a token for each row from `logits` [rows, vocab] of any float dtype.

        `uniforms` are float64 [rows] in [0, 1), on the device of `logits`; ignored if all rows are greedy.
        """
        tokens = first_argmax(logits)
        # argmax prefers NaN and +inf, and returns -inf only where all logits are -inf.
        finite = logits.gather(1, tokens[:, None])[:, 0].isfinite()
        if self.greedy:
            return Draw(tokens, finite)
        drawn = (self.temperature > 0) & finite
        ranked = (self.top_k > 0) | (self.top_p < 1)
        for rows, choose in ((drawn & ranked, _by_rank), (drawn & ~ranked, _by_id)):
            index = rows.nonzero()[:, 0]
            if len(index):
                part = _pick(logits, index)
                wide = part.to(torch.promote_types(part.dtype, torch.float32))
                tokens[index] = choose(self.select(index), wide, uniforms[index])
        return Draw(tokens, finite)

    def _scaled(self, logits: Tensor) -> Tensor:
        # In the dtype of the logits, as in TemperatureLogitsWarper.
        return logits / self.temperature[:, None].to(logits.dtype)


def _pick(logits: Tensor, index: Tensor) -> Tensor:
    """These rows, in ascending order; not copied if all are selected."""
    return logits if len(index) == len(logits) else logits[index]


def logprob(logits: Tensor, tokens: Tensor) -> Tensor:
    """Natural log-probability [rows], float32 at least, of `tokens` [rows] under the raw `logits` [rows, vocab]."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.log_softmax(-1).gather(1, tokens[:, None])[:, 0]


def first_argmax(logits: Tensor) -> Tensor:
    """int64 [rows]: the first of the highest; NaN is highest."""
    if logits.device.type == "cpu" and logits.dtype in (torch.float32, torch.float64):
        # Same result as torch, which takes 5 to 10 times as long on a CPU.
        return torch.from_numpy(logits.detach().numpy().argmax(-1))
    return logits.argmax(-1)


def _by_id(sampler: Sampler, logits: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse CDF over the vocabulary in order of ids: first the block, then the token in it.

    Blocks are summed in the dtype of the logits and cumulated in float64, so that 100,000 small probabilities
    do not lose their mass to rounding.
    """
    weights = sampler._scaled(logits).softmax(-1)
    if sampler.min_p.any():
        least = sampler.min_p.to(weights.dtype) * weights.amax(-1)
        weights.masked_fill_(weights < least[:, None], 0)
    if short := -weights.shape[1] % _BLOCK:
        weights = torch.nn.functional.pad(weights, (0, short))
    blocks = weights.view(len(weights), -1, _BLOCK)
    mass = blocks.sum(-1).double().cumsum(-1)
    block, rest = _inverse(mass, uniforms * mass[:, -1])
    row = torch.arange(len(blocks), device=blocks.device)
    token, _ = _inverse(blocks[row, block].double().cumsum(-1), rest)
    return block * _BLOCK + token


def _inverse(cumulated: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The first index with a cumulated weight above the target, and the target minus all weight before it."""
    last = torch.nextafter(cumulated[:, -1], torch.zeros_like(target))
    target = torch.minimum(target, last)
    index = torch.searchsorted(cumulated, target[:, None], right=True)
    before = torch.nn.functional.pad(cumulated, (1, 0)).gather(1, index)
    return index[:, 0], target - before[:, 0]


def _by_rank(sampler: Sampler, logits: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse CDF over the most likely tokens: a few first, then more, then all.

    A row is done at the first width at which no token outside can be kept; this depends only on its own settings
    and logits.
    """
    vocab = logits.shape[1]
    total = _total(sampler, logits)
    tokens = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    settled = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    for width in (*(w for w in _WIDTHS if w < vocab), vocab):
        index = (~settled & ((sampler.top_k < width) | (width == vocab))).nonzero()[:, 0]
        if len(index) == 0:
            continue
        part = sampler.select(index)
        ids, weights, complete = _nucleus(part, _pick(logits, index), total[index], width)
        mass = weights.cumsum(-1)
        rank, _ = _inverse(mass, uniforms[index] * mass[:, -1])
        tokens[index] = ids.gather(1, rank[:, None])[:, 0]
        settled[index] = complete
    return tokens


def _total(sampler: Sampler, logits: Tensor) -> Tensor:
    """float64 [rows]: sum of exp((logit - highest) / temperature) where top_p needs it, else 0."""
    total = torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
    index = ((sampler.top_k == 0) | (sampler.top_k >= logits.shape[1])).nonzero()[:, 0]
    if len(index):
        likely = sampler.select(index)._scaled(_pick(logits, index)).softmax(-1)
        total[index] = likely.amax(-1).double().reciprocal()
    return total


def _nucleus(
    sampler: Sampler, logits: Tensor, total: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The most likely tokens of each row.

    Returns:
        ids: int64 [rows, width], most likely first, ties by id.
        weights: float64 [rows, width], proportional to probability; 0 where a filter drops the token.
        complete: bool [rows], whether no token outside can be kept.
    """
    vocab = logits.shape[1]
    ids = _ranking(logits) if width == vocab else _first(logits, width)
    values = sampler._scaled(logits.gather(1, ids))
    weights = (values - values[:, :1]).double().exp()
    # top_k keeps all tokens that tie with the k-th; it has no effect from the size of the vocabulary on.
    limited = ((sampler.top_k > 0) & (sampler.top_k < vocab))[:, None]
    kth = values.gather(1, (sampler.top_k[:, None] - 1).clamp(0, width - 1))
    weights = weights.masked_fill(limited & (values < kth), 0)
    norm = torch.where(limited[:, 0], weights.sum(-1), total)[:, None]
    likelier = weights.cumsum(-1) - weights
    top_p = sampler.top_p[:, None]
    weights = weights.masked_fill((top_p < 1) & (likelier >= top_p * norm), 0)
    weights = weights.masked_fill(weights < sampler.min_p[:, None], 0)
    # The last one may tie with tokens outside: if it or its equals are kept, there may be more.
    open_end = ((values == values[:, -1:]) & (weights > 0)).any(-1)
    return ids, weights, ~open_end | (width == vocab)


def _first(logits: Tensor, width: int) -> Tensor:
    """int64 [rows, width]: the most likely tokens in order; any of those that tie with the last."""
    ids = logits.topk(width, sorted=False).indices.sort(-1).values
    order = logits.gather(1, ids).sort(stable=True, dim=-1, descending=True).indices
    return ids.gather(1, order)


def _ranking(logits: Tensor) -> Tensor:
    """int64 [rows, vocab]: all tokens, most likely first, ties by id."""
    if logits.device.type != "cpu" or logits.dtype != torch.float32:
        return logits.sort(stable=True, dim=-1, descending=True).indices
    # numpy sorts integers ten times as fast as torch sorts floats. The bits of a float, as an integer, are in the
    # order of the values once those of negative numbers are inverted; the lower half is the id.
    bits = (logits + 0.0).numpy().view(np.int32)  # + 0.0 turns -0.0 into 0.0: they tie
    ascending = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys = ~ascending.astype(np.int64) << 32 | np.arange(logits.shape[1])
    keys.sort(-1)
    return torch.from_numpy(keys & 0xFFFFFFFF)
