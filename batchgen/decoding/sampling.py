"""The next token of each row from its logits: greedy, or drawn by one uniform number a row.

    greedy              argmax of the raw logits
    top_k or top_p      the most likely tokens in order, cumulated until the uniform is passed
    anything else       all tokens in order of their ids, cumulated until the uniform is passed

Temperature, top_k, top_p and min_p act in transformers' order and keep the same tokens. Which tokens those are and
which one is drawn is computed from the row alone: rows are put in groups by their own settings and logits, and
no operation mixes rows, so a row draws the same token beside any neighbours. Where logits tie, the lower token
id counts as the more likely. Knows nothing of models, prompts or where uniforms come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from batchgen.records import ResolvedDecoding

_PREFIX = 64
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Draw:
    """What was chosen.

    Attributes:
        tokens: int64 [rows]; of no meaning where `finite` is False.
        finite: bool [rows], False where the logits hold NaN or +inf, or are all -inf.
    """

    tokens: Tensor
    finite: Tensor


@dataclass(frozen=True, slots=True)
class Sampler:
    """The sampling settings of each row of a batch, as tensors.

    Attributes:
        temperature: float64 [rows], 0 is greedy.
        top_k: int64 [rows], 0 keeps all.
        top_p: float64 [rows], 1 keeps all.
        min_p: float64 [rows], 0 keeps all.
        greedy: whether every row is greedy; then no uniform is looked at.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    greedy: bool

    @classmethod
    def of(cls, settings: Sequence[ResolvedDecoding], device: torch.device | str = "cpu") -> Self:
        """The settings of a batch, one a row."""

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        return cls(
            column([s.temperature for s in settings]),
            torch.tensor([s.top_k for s in settings], dtype=torch.int64, device=device),
            column([s.top_p for s in settings]),
            column([s.min_p for s in settings]),
            all(s.greedy for s in settings),
        )

    def select(self, rows: Tensor) -> Self:
        """The settings of those rows (int64 indices), in that order."""
        return type(self)(
            self.temperature[rows],
            self.top_k[rows],
            self.top_p[rows],
            self.min_p[rows],
            self.greedy,
        )

    def draw(self, logits: Tensor, uniforms: Tensor) -> Draw:
        """Choose a token for each row.

        Args:
            logits: [rows, vocab], any float dtype; never changed.
            uniforms: float64 [rows] in [0, 1).
        """
        tokens = logits.argmax(-1)
        highest = logits.gather(1, tokens[:, None])[:, 0]
        finite = highest.isfinite()
        if self.greedy:
            return Draw(tokens, finite)
        ranked = (self.top_k > 0) | (self.top_p < 1)
        drawn = (self.temperature > 0) & finite
        for rows, choose in (
            ((drawn & ranked).nonzero()[:, 0], _by_rank),
            ((drawn & ~ranked).nonzero()[:, 0], _by_id),
        ):
            if len(rows):
                tokens[rows] = choose(self.select(rows), _wide(logits[rows]), uniforms[rows])
        return Draw(tokens, finite)


def logprob(logits: Tensor, tokens: Tensor) -> Tensor:
    """Natural log-probability of one token a row under the raw logits.

    Args:
        logits: [rows, vocab].
        tokens: int64 [rows].

    Returns:
        float32 at least, [rows].
    """
    wide = _wide(logits)
    highest = wide.amax(-1, keepdim=True)
    total = (wide - highest).exp_().sum(-1).log()
    return wide.gather(1, tokens[:, None])[:, 0] - highest[:, 0] - total


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _weights(sampler: Sampler, logits: Tensor) -> Tensor:
    """exp((logit - highest) / temperature): at most 1; dtype and shape of `logits`."""
    scaled = logits / sampler.temperature[:, None].to(logits.dtype)
    return scaled.sub_(scaled.amax(-1, keepdim=True)).exp_()


def _by_id(sampler: Sampler, logits: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse CDF over the whole vocabulary, in blocks: first the block, then the token in it."""
    weights = _weights(sampler, logits)
    weights = weights.masked_fill_(weights < sampler.min_p[:, None].to(weights.dtype), 0)
    short = -weights.shape[1] % _BLOCK
    blocks = torch.nn.functional.pad(weights, (0, short)).view(len(weights), -1, _BLOCK)
    mass = blocks.sum(-1).double().cumsum(-1)
    block, rest = _inverse(mass, uniforms * mass[:, -1])
    inside = blocks[torch.arange(len(blocks), device=blocks.device), block].double().cumsum(-1)
    token, _ = _inverse(inside, rest)
    return block * _BLOCK + token


def _inverse(cumulated: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The first place whose cumulated weight is above the target, and what is left of the target there."""
    below = torch.nextafter(cumulated[:, -1], torch.zeros_like(target))
    target = torch.minimum(target, below)
    place = torch.searchsorted(cumulated, target[:, None], right=True)
    start = torch.nn.functional.pad(cumulated, (1, 0)).gather(1, place)
    return place[:, 0], target - start[:, 0]


def _by_rank(sampler: Sampler, logits: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse CDF over the most likely tokens, of which a first few are looked at, then more, then all."""
    tokens = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    rows = torch.arange(len(logits), device=logits.device)
    total = _weights(sampler, logits).sum(-1).double()
    vocab = logits.shape[1]
    for width in (_PREFIX, 16 * _PREFIX, vocab):
        part = sampler.select(rows)
        ids, kept, enough = _kept(part, logits[rows], total[rows], min(width, vocab))
        mass = kept.cumsum(-1)
        place, _ = _inverse(mass, uniforms[rows] * mass[:, -1])
        done = enough.nonzero()[:, 0]
        tokens[rows[done]] = ids.gather(1, place[:, None])[done, 0]
        rows = rows[(~enough).nonzero()[:, 0]]
        if len(rows) == 0:
            break
    return tokens


def _kept(
    sampler: Sampler, logits: Tensor, total: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The `width` most likely tokens, with weight 0 where a filter drops them.

    Returns:
        ids: int64 [rows, width], most likely first, ties by id.
        weights: float64 [rows, width].
        enough: bool [rows], whether no kept token can be outside.
    """
    vocab = logits.shape[1]
    ids = logits.topk(width, sorted=False).indices.sort(-1).values
    scaled = logits.gather(1, ids) / sampler.temperature[:, None].to(logits.dtype)
    scaled, order = scaled.sort(stable=True, dim=-1, descending=True)
    ids = ids.gather(1, order)
    weights = (scaled - scaled[:, :1]).double().exp()
    # top_k keeps what ties with the k-th.
    k = torch.where(sampler.top_k > 0, sampler.top_k, vocab)[:, None]
    kth = scaled.gather(1, (k - 1).clamp(max=width - 1))
    in_k = torch.where(k <= width, scaled >= kth, True)
    by_k = torch.where(in_k, weights, 0)
    norm = torch.where(k[:, 0] < vocab, by_k.sum(-1), total)
    before = by_k.cumsum(-1) - by_k
    in_p = (before < sampler.top_p[:, None] * norm[:, None]) | (sampler.top_p[:, None] >= 1)
    kept = in_k & in_p & (weights >= sampler.min_p[:, None])
    # The last token seen may tie with tokens not seen, so it and its equals must not be kept.
    tied = scaled == scaled[:, -1:]
    enough = ~(kept & tied).any(-1) & ((k[:, 0] < width) | (k[:, 0] >= vocab))
    return ids, torch.where(kept, weights, 0), enough | (width == vocab)
