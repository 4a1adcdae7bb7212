"""Changes to logits before sampling: repetition penalty, blocked n-grams, minimum length.

Order and results are those of transformers' processors on each row alone, without padding:
RepetitionPenalty, NoRepeatNGram, MinNewTokensLength.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from batchgen.records import ResolvedDecoding


class History:
    """The tokens of each row, prompt and answer, in one tensor.

        tokens   7 8 9 4 . .      length 4, new 1
                 5 6 2 3 1 .      length 5, new 1

    Places after a row's end contain the row's first token, so that every place has a token of the row and a
    scatter over the whole width needs no mask.
    """

    def __init__(self, tokens: Tensor, lengths: Tensor, new: Tensor, prompts: "_Prompts") -> None:
        self.tokens = tokens
        """int64 [rows, width]."""
        self.lengths = lengths
        """int64 [rows]: prompt and new tokens."""
        self.new = new
        """int64 [rows]: new tokens."""
        self._prompts = prompts
        self._steps = 0

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> Self:
        """Rows with their prompts only, each at least one token."""
        facts = _Prompts(max(map(len, prompts)), max(max(prompt) for prompt in prompts))
        width = facts.longest + 64
        tokens = torch.tensor([[*p, *[p[0]] * (width - len(p))] for p in prompts], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        return cls(tokens, lengths, torch.zeros_like(lengths), facts)

    @property
    def longest(self) -> int:
        """An upper bound of the lengths, kept on the host: reading one from a GPU would synchronize."""
        return self._prompts.longest + self._steps

    @property
    def highest(self) -> int:
        """The highest token id in the prompts; new tokens are below the width of the logits."""
        return self._prompts.highest

    def append(self, tokens: Tensor) -> None:
        """Add one new token to each row: int64 [rows]."""
        if self.longest == self.tokens.shape[1]:
            more = self.tokens[:, :1].expand(-1, self.longest // 2 + 1)
            self.tokens = torch.cat([self.tokens, more], dim=1)
        self.tokens.scatter_(1, self.lengths[:, None], tokens[:, None])
        self.lengths = self.lengths + 1
        self.new = self.new + 1
        self._steps += 1

    def select(self, rows: Tensor) -> Self:
        """The history of these rows (int64 indices), in this order."""
        part = type(self)(self.tokens[rows], self.lengths[rows], self.new[rows], self._prompts)
        part._steps = self._steps
        return part


@dataclass(frozen=True, slots=True)
class _Prompts:
    longest: int
    highest: int


@dataclass(frozen=True, slots=True)
class _Kinds:
    """The penalties that any row has, kept on the host."""

    repetition: bool
    ngram_sizes: tuple[int, ...]
    min_new: bool
    highest_end: int


@dataclass(frozen=True, slots=True)
class Penalties:
    """The penalties of each row of a batch.

    Attributes:
        repetition: float64 [rows], 1 is none.
        ngram: int64 [rows], 0 is none.
        min_new: int64 [rows], 0 is none.
        end_tokens: int64 [rows, most end tokens]; a row with fewer repeats its first.
    """

    repetition: Tensor
    ngram: Tensor
    min_new: Tensor
    end_tokens: Tensor
    kinds: _Kinds

    @property
    def active(self) -> bool:
        """Whether any row has a penalty. If not, no history is needed."""
        return self.kinds.repetition or bool(self.kinds.ngram_sizes) or self.kinds.min_new

    @classmethod
    def of(cls, settings: Sequence[ResolvedDecoding], device: torch.device | str = "cpu") -> Self:
        """The penalties of a batch, one setting per row."""
        repetition = [s.repetition_penalty for s in settings]
        ngram = [s.no_repeat_ngram_size for s in settings]
        min_new = [s.min_new_tokens if s.end_token_ids else 0 for s in settings]
        ends = [sorted(s.end_token_ids) or [0] for s in settings]
        most = max(map(len, ends), default=0)
        return cls(
            torch.tensor(repetition, dtype=torch.float64, device=device),
            torch.tensor(ngram, device=device),
            torch.tensor(min_new, device=device),
            torch.tensor([[*e, *[e[0]] * (most - len(e))] for e in ends], device=device),
            _Kinds(
                repetition=any(one != 1.0 for one in repetition),
                ngram_sizes=tuple(sorted({size for size in ngram if size})),
                min_new=any(min_new),
                highest_end=max(map(max, ends), default=0),
            ),
        )

    def select(self, rows: Tensor) -> Self:
        """The penalties of these rows (int64 indices), in this order."""
        return type(self)(
            self.repetition[rows],
            self.ngram[rows],
            self.min_new[rows],
            self.end_tokens[rows],
            self.kinds,
        )

    def apply(self, logits: Tensor, history: History) -> Tensor:
        """Apply the penalties.

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
        spare = max(history.highest, self.kinds.highest_end) + 1 - vocab
        if spare > 0:
            # An embedding wider than the head: tokens without logits get columns that are cut off below.
            wide = torch.nn.functional.pad(wide, (0, spare))
        if self.kinds.repetition:
            self._repetition(wide, history)
        for size in self.kinds.ngram_sizes:
            self._ngrams(wide, history, size)
        if self.kinds.min_new:
            self._early_end(wide, history)
        return wide[:, :vocab].contiguous()

    def _repetition(self, logits: Tensor, history: History) -> None:
        # Rows without a penalty divide by 1, which changes nothing; a token that occurs twice is written twice.
        tokens = history.tokens[:, : history.longest]
        penalty = self.repetition[:, None].to(logits.dtype)
        score = logits.gather(1, tokens)
        logits.scatter_(1, tokens, torch.where(score < 0, score * penalty, score / penalty))

    def _ngrams(self, logits: Tensor, history: History, size: int) -> None:
        rows = ((self.ngram == size) & (history.lengths >= size)).nonzero()[:, 0]
        if len(rows) == 0:
            return
        lengths = history.lengths[rows]
        tokens = history.tokens[rows, : history.longest]
        # The last size-1 tokens of each row: the start of the n-gram that the next token completes.
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
