"""The next token of each row from its logits: greedy, or sampled with one uniform number per row.

    greedy              argmax of the raw logits
    top_k or top_p      the most likely tokens in order, cumulated until the uniform is passed
    anything else       all tokens in order of their ids, cumulated until the uniform is passed

Temperature, top_k, top_p and min_p apply in transformers' order and keep the same tokens. The kept tokens and the
sampled one depend on the row alone: rows are grouped by their own settings and logits, and no operation mixes rows,
so a row gets the same token in any batch. Of tokens with equal logits the lower id ranks first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from batchgen.decoding.upload import upload, upload_together
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
        settings: of the rows, on the host: what depends on them alone needs no transfer.
        greedy: whether every row is greedy; then uniforms are ignored.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    settings: Sequence[ResolvedDecoding]
    greedy: bool

    @classmethod
    def of(cls, settings: Sequence[ResolvedDecoding], device: torch.device | str = "cpu") -> Self:

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64)

        top_k = [min(s.top_k, _MAX_TOP_K) for s in settings]
        temperature, ranks, top_p, min_p = upload_together(
            [
                column([max(s.temperature, _COLDEST) if s.temperature else 0.0 for s in settings]),
                torch.tensor(top_k, dtype=torch.int64),
                column([s.top_p for s in settings]),
                column([s.min_p for s in settings]),
            ],
            device,
        )
        greedy = all(one.greedy for one in settings)
        return cls(temperature, ranks, top_p, min_p, settings, greedy)

    def select(self, rows: Sequence[int]) -> Self:
        """The settings of these rows, in this order."""
        index = upload(torch.tensor(rows, dtype=torch.int64), self.temperature.device)
        settings = [self.settings[row] for row in rows]
        return replace(
            self,
            temperature=self.temperature[index],
            top_k=self.top_k[index],
            top_p=self.top_p[index],
            min_p=self.min_p[index],
            settings=settings,
            greedy=all(one.greedy for one in settings),
        )

    def draw(self, logits: Tensor, uniforms: Tensor) -> Draw:
        """Choose a token for each row from `logits` [rows, vocab] of any float dtype.

        `uniforms` are float64 [rows] in [0, 1), on the device of `logits`; ignored if all rows are greedy.
        """
        drawing = self.start(logits, uniforms)
        drawing.finish(drawing.settled.tolist())
        return Draw(drawing.tokens, drawing.finite)

    def start(self, logits: Tensor, uniforms: Tensor) -> "Drawing":
        """The same without waiting for the device: a few rows may be left that `Drawing.finish` draws."""
        tokens = first_argmax(logits)
        # argmax prefers NaN and +inf, and returns -inf only where all logits are -inf.
        finite = logits.gather(1, tokens[:, None])[:, 0].isfinite()
        drawing = Drawing(self, logits, uniforms, tokens, finite, torch.ones_like(finite))
        if not self.greedy:
            drawing.start()
        return drawing

    def _scaled(self, logits: Tensor) -> Tensor:
        # In the dtype of the logits, as in TemperatureLogitsWarper.
        return logits / self.temperature[:, None].to(logits.dtype)


@dataclass(slots=True)
class Drawing:
    """Tokens that are being drawn.

        start     by id, and by rank among as many tokens as the settings of a row need at least
        finish    by rank among more tokens, for rows that are not settled

    Attributes:
        tokens, finite: see `Draw`.
        settled: bool [rows], False where `finish` is needed.
    """

    sampler: Sampler
    logits: Tensor
    uniforms: Tensor
    tokens: Tensor
    finite: Tensor
    settled: Tensor

    def start(self) -> None:
        settings = self.sampler.settings
        rows = [row for row, one in enumerate(settings) if not one.greedy]
        ranked = [row for row in rows if settings[row].top_k > 0 or settings[row].top_p < 1]
        if by_id := sorted({*rows} - {*ranked}):
            part, index = self._part(by_id)
            drawn = _by_id(part.sampler, part.logits, part.uniforms)
            self._put(index, part, drawn, torch.ones_like(part.finite))
        self._by_rank({row: self._widths(row)[0] for row in ranked})

    def finish(self, settled: Sequence[bool]) -> None:
        """Draw the rows that are not `settled`; waits for the device after each width."""
        left = {row: self._widths(row)[1:] for row, done in enumerate(settled) if not done}
        while left:
            self._by_rank({row: widths[0] for row, widths in left.items()})
            done = self.settled.tolist()
            left = {row: widths[1:] for row, widths in left.items() if not done[row]}

    def _widths(self, row: int) -> list[int]:
        """Numbers of tokens to try for this row, in turn: the last is all."""
        vocab, top_k = self.logits.shape[1], self.sampler.settings[row].top_k
        return [width for width in _WIDTHS if top_k < width < vocab] + [vocab]

    def _by_rank(self, widths: Mapping[int, int]) -> None:
        for width in sorted(set(widths.values())):
            part, index = self._part([row for row, one in widths.items() if one == width])
            ids, weights, complete = _nucleus(part.sampler, part.logits, _total(part), width)
            mass = weights.cumsum(-1)
            rank, _ = _inverse(mass, part.uniforms * mass[:, -1])
            drawn = ids.gather(1, rank[:, None])[:, 0]
            self._put(index, part, drawn, complete | ~part.finite)

    def _part(self, rows: Sequence[int]) -> tuple["Drawing", Tensor]:
        """These rows, in ascending order and float32 at least, and their index; not copied if all are selected."""
        index = upload(torch.tensor(rows, dtype=torch.int64), self.logits.device)
        wide = torch.promote_types(self.logits.dtype, torch.float32)
        if len(rows) == len(self.logits):
            return replace(self, logits=self.logits.to(wide)), index
        own = (self.uniforms, self.tokens, self.finite, self.settled)
        part = Drawing(
            self.sampler.select(rows), self.logits[index].to(wide), *(one[index] for one in own)
        )
        return part, index

    def _put(self, index: Tensor, part: "Drawing", drawn: Tensor, settled: Tensor) -> None:
        # What is drawn from logits that are not finite may be no token.
        self.tokens[index] = torch.where(part.finite, drawn, part.tokens)
        self.settled[index] = settled


def log_probabilities(logits: Tensor) -> Tensor:
    """Natural log-probabilities [rows, vocab], float32 at least, of all tokens under the raw `logits` [rows, vocab]."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def most_likely(logits: Tensor, count: int) -> Tensor:
    """int64 [rows, count]: the most likely tokens, most likely first, ties by id; any of those that tie with the last."""
    return _first(logits, count)


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
    if any(one.min_p for one in sampler.settings):
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
    # Nothing is passed where the weights are not finite.
    index = torch.searchsorted(cumulated, target[:, None], right=True)
    index = index.clamp(max=cumulated.shape[1] - 1)
    before = torch.nn.functional.pad(cumulated, (1, 0)).gather(1, index)
    return index[:, 0], target - before[:, 0]


def _total(part: Drawing) -> Tensor:
    """float64 [rows]: sum of exp((logit - highest) / temperature) where top_p needs it, else 0."""
    logits, vocab = part.logits, part.logits.shape[1]
    total = torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
    settings = enumerate(part.sampler.settings)
    rows = [row for row, one in settings if one.top_k == 0 or one.top_k >= vocab]
    if rows:
        needed, index = part._part(rows)
        likely = needed.sampler._scaled(needed.logits).softmax(-1)
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
