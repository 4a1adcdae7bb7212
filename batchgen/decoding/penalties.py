"""What changes logits before a token is chosen: repetition penalty, repeated n-grams, end tokens too early.

Order and results are those of transformers' processors on each row alone, without padding:
RepetitionPenalty, NoRepeatNGram, MinNewTokensLength. Knows nothing of models or of how a token is chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import torch
from torch import Tensor

from batchgen.records import ResolvedDecoding


class History:
    """The tokens of each row, prompt and new, in one tensor.

        tokens   7 8 9 4 . .      length 4, new 1
                 5 6 2 3 1 .      length 5, new 1

    Places behind a row's end hold the row's first token again, so that every place holds a token of the row
    and a scatter over the whole width needs no mask.
    """

    def __init__(self, tokens: Tensor, lengths: Tensor, new: Tensor, highest: int) -> None:
        self.tokens = tokens
        """int64 [rows, width]."""
        self.lengths = lengths
        """int64 [rows]: prompt and new tokens."""
        self.new = new
        """int64 [rows]: new tokens."""
        self.highest = highest
        """No token id is above this one."""

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> Self:
        """Rows that have only their prompts so far, each at least one token."""
        width = max(len(prompt) for prompt in prompts) + 64
        tokens = torch.tensor([[*p, *[p[0]] * (width - len(p))] for p in prompts], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        return cls(tokens, lengths, torch.zeros_like(lengths), max(chain.from_iterable(prompts)))

    def append(self, tokens: Tensor) -> None:
        """Add one new token to each row: int64 [rows]."""
        used = int(self.lengths.max())
        if used == self.tokens.shape[1]:
            more = self.tokens[:, :1].expand(-1, used // 2 + 1)
            self.tokens = torch.cat([self.tokens, more], dim=1)
        self.tokens.scatter_(1, self.lengths[:, None], tokens[:, None])
        self.lengths = self.lengths + 1
        self.new = self.new + 1
        self.highest = max(self.highest, int(tokens.max()))

    def select(self, rows: Tensor) -> Self:
        """The history of those rows (int64 indices), in that order."""
        return type(self)(self.tokens[rows], self.lengths[rows], self.new[rows], self.highest)


@dataclass(frozen=True, slots=True)
class Penalties:
    """The penalties of each row of a batch.

    Attributes:
        repetition: float64 [rows], 1 is none.
        ngram: int64 [rows], 0 is none.
        min_new: int64 [rows], 0 is none.
        end_tokens: int64 [rows, most end tokens]; short rows repeat their first one; no columns if any
            row has no end token but min_new is 0 there.
    """

    repetition: Tensor
    ngram: Tensor
    min_new: Tensor
    end_tokens: Tensor
    active: bool

    @classmethod
    def of(cls, settings: Sequence[ResolvedDecoding], device: torch.device | str = "cpu") -> Self:
        """The penalties of a batch, one setting a row."""
        most = max((len(s.end_token_ids) for s in settings), default=0)
        ends = [sorted(s.end_token_ids) or [0] for s in settings]
        min_new = [s.min_new_tokens if s.end_token_ids else 0 for s in settings]
        repetition = [s.repetition_penalty for s in settings]
        ngram = [s.no_repeat_ngram_size for s in settings]
        return cls(
            torch.tensor(repetition, dtype=torch.float64, device=device),
            torch.tensor(ngram, device=device),
            torch.tensor(min_new, device=device),
            torch.tensor([[*e, *[e[0]] * (most - len(e))] for e in ends], device=device),
            any(r != 1.0 for r in repetition) or any(ngram) or any(min_new),
        )

    def select(self, rows: Tensor) -> Self:
        """The penalties of those rows (int64 indices), in that order."""
        return type(self)(
            self.repetition[rows],
            self.ngram[rows],
            self.min_new[rows],
            self.end_tokens[rows],
            self.active,
        )

    def apply(self, logits: Tensor, history: History) -> Tensor:
        """Logits with the penalties in them.

        Args:
            logits: [rows, vocab]; never changed.
            history: of the same rows.

        Returns:
            `logits` itself if no row has a penalty, else a new tensor, float32 at least.
        """
        if not self.active:
            return logits
        vocab = logits.shape[1]
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32), copy=True)
        if history.highest >= vocab:
            # Tokens of an embedding wider than the head: a spare column takes what is theirs.
            wide = torch.nn.functional.pad(wide, (0, history.highest + 1 - vocab))
        self._repetition(wide, history)
        self._ngrams(wide, history)
        self._early_end(wide, history)
        return wide[:, :vocab].contiguous()

    def _repetition(self, logits: Tensor, history: History) -> None:
        rows = (self.repetition != 1.0).nonzero()[:, 0]
        if len(rows) == 0:
            return
        tokens = history.tokens[rows, : int(history.lengths[rows].max())]
        penalty = self.repetition[rows, None].to(logits.dtype)
        part = logits[rows]
        score = part.gather(1, tokens)
        score = torch.where(score < 0, score * penalty, score / penalty)
        logits[rows] = part.scatter(1, tokens, score)

    def _ngrams(self, logits: Tensor, history: History) -> None:
        for size in sorted(set(self.ngram.tolist())):
            if size == 0:
                continue
            rows = ((self.ngram == size) & (history.lengths >= size)).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            lengths = history.lengths[rows]
            tokens = history.tokens[rows, : int(lengths.max())]
            # A row's last size-1 tokens, wherever the row ends.
            places = lengths[:, None] + torch.arange(1 - size, 0, device=lengths.device)
            suffix = tokens.gather(1, places)
            windows = tokens.unfold(1, size, 1)
            same = (windows[..., :-1] == suffix[:, None]).all(-1)
            ends = torch.arange(size, tokens.shape[1] + 1, device=lengths.device)
            same &= ends[None] <= lengths[:, None]
            row, window = same.nonzero(as_tuple=True)
            logits[rows[row], windows[row, window, -1]] = -torch.inf

    def _early_end(self, logits: Tensor, history: History) -> None:
        rows = (history.new < self.min_new).nonzero()[:, 0]
        if len(rows):
            logits[rows[:, None], self.end_tokens[rows]] = -torch.inf
