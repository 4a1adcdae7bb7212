"""Changes to logits before sampling: repetition penalty, blocked n-grams, minimum length.

Order and results are those of transformers' processors on each row alone, without padding:
RepetitionPenalty, NoRepeatNGram, MinNewTokensLength.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from batchgen.decoding.upload import upload_together
from batchgen.records import ResolvedDecoding


@dataclass(slots=True)
class History:
    """The tokens of each row, prompt and answer, in one tensor.

        tokens   7 8 9 4 . .      length 4, new 1
                 5 6 2 3 1 .      length 5, new 1

    Positions after a row's end contain the row's first token, so that a scatter over the whole width needs no mask.

    Attributes:
        tokens: int64 [rows, width].
        lengths: int64 [rows]: prompt and new tokens.
        new: int64 [rows]: new tokens.
        longest: an upper bound of the lengths, kept on the host: reading one from a GPU would synchronize.
        highest: the highest token id in the prompts; new tokens are below the width of the logits.
    """

    tokens: Tensor
    lengths: Tensor
    new: Tensor
    longest: int
    highest: int

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> Self:
        """Rows with their prompts only, each at least one token."""
        longest = max(map(len, prompts))
        rows = [[*prompt, *[prompt[0]] * (longest + 64 - len(prompt))] for prompt in prompts]
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        tokens, lengths = upload_together([torch.tensor(rows), lengths], device)
        highest = max(max(prompt) for prompt in prompts)
        return cls(tokens, lengths, torch.zeros_like(lengths), longest, highest)

    def append(self, tokens: Tensor) -> None:
        """Add one new token to each row: int64 [rows]."""
        if self.longest == self.tokens.shape[1]:
            more = self.tokens[:, :1].expand(-1, self.longest // 2 + 1)
            self.tokens = torch.cat([self.tokens, more], dim=1)
        self.tokens.scatter_(1, self.lengths[:, None], tokens[:, None])
        self.lengths = self.lengths + 1
        self.new = self.new + 1
        self.longest += 1

    def select(self, rows: Tensor) -> Self:
        """The history of these rows (int64 indices), in this order."""
        tokens, lengths, new = self.tokens[rows], self.lengths[rows], self.new[rows]
        return replace(self, tokens=tokens, lengths=lengths, new=new)


@dataclass(frozen=True, slots=True)
class Penalties:
    """The penalties of each row of a batch.

    Attributes:
        repetition: float64 [rows], 1 is none.
        ngram: int64 [rows], 0 is none.
        min_new: int64 [rows], 0 is none.
        end_tokens: int64 [rows, most end tokens]; a row with fewer repeats its first.
        any_repetition: whether any row has one; this and the following are kept on the host.
        ngram_sizes: those of any row.
        any_min_new: whether any row has one.
        highest_end: the highest end token.
    """

    repetition: Tensor
    ngram: Tensor
    min_new: Tensor
    end_tokens: Tensor
    any_repetition: bool
    ngram_sizes: tuple[int, ...]
    any_min_new: bool
    highest_end: int

    @property
    def active(self) -> bool:
        """Whether any row has a penalty. If not, no history is needed."""
        return self.any_repetition or bool(self.ngram_sizes) or self.any_min_new

    @classmethod
    def of(cls, settings: Sequence[ResolvedDecoding], device: torch.device | str = "cpu") -> Self:
        repetition = [s.repetition_penalty for s in settings]
        ngram = [s.no_repeat_ngram_size for s in settings]
        min_new = [s.min_new_tokens if s.end_token_ids else 0 for s in settings]
        ends = [sorted(s.end_token_ids) or [0] for s in settings]
        most = max(map(len, ends), default=0)
        penalties, ngrams, least, end_tokens = upload_together(
            [
                torch.tensor(repetition, dtype=torch.float64),
                torch.tensor(ngram, dtype=torch.int64),
                torch.tensor(min_new, dtype=torch.int64),
                torch.tensor([[*e, *[e[0]] * (most - len(e))] for e in ends], dtype=torch.int64),
            ],
            device,
        )
        return cls(
            penalties,
            ngrams,
            least,
            end_tokens,
            any_repetition=any(one != 1.0 for one in repetition),
            ngram_sizes=tuple(sorted({size for size in ngram if size})),
            any_min_new=any(min_new),
            highest_end=max(map(max, ends), default=0),
        )

    def select(self, rows: Tensor) -> Self:
        """The penalties of these rows (int64 indices), in this order."""
        return replace(
            self,
            repetition=self.repetition[rows],
            ngram=self.ngram[rows],
            min_new=self.min_new[rows],
            end_tokens=self.end_tokens[rows],
        )

    def apply(self, logits: Tensor, history: History) -> Tensor:
        """The penalized logits: `logits` [rows, vocab] itself if no row has a penalty, else a new tensor, float32 at least."""
        if not self.active:
            return logits
        vocab = logits.shape[1]
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32), copy=True)
        spare = max(history.highest, self.highest_end) + 1 - vocab
        if spare > 0:
            # An embedding wider than the head: tokens without logits get columns that are cut off below.
            wide = torch.nn.functional.pad(wide, (0, spare))
        if self.any_repetition:
            self._repetition(wide, history)
        for size in self.ngram_sizes:
            self._ngrams(wide, history, size)
        if self.any_min_new:
            self._early_end(wide, history)
        return wide[:, :vocab].contiguous()

    def _repetition(self, logits: Tensor, history: History) -> None:
        # Rows without a penalty divide by 1, which changes nothing; a token that occurs twice is written twice.
        tokens = history.tokens[:, : history.longest]
        penalty = self.repetition[:, None].to(logits.dtype)
        score = logits.gather(1, tokens)
        logits.scatter_(1, tokens, torch.where(score < 0, score * penalty, score / penalty))

    def _ngrams(self, logits: Tensor, history: History, size: int) -> None:
        if history.longest < size:
            return
        lengths, tokens = history.lengths, history.tokens[:, : history.longest]
        # The last size-1 tokens of each row: the start of the n-gram that the next token completes.
        last = lengths[:, None] + torch.arange(1 - size, 0, device=lengths.device)
        suffix = tokens.gather(1, last.clamp(min=0))
        windows = tokens.unfold(1, size, 1)
        same = (windows[..., :-1] == suffix[:, None]).all(-1)
        ends = torch.arange(size, tokens.shape[1] + 1, device=lengths.device)
        same &= (ends[None] <= lengths[:, None]) & (self.ngram == size)[:, None]
        # A token that is in several windows keeps the lowest.
        logits.scatter_reduce_(
            1, windows[..., -1], torch.where(same, -torch.inf, torch.inf).to(logits.dtype), "amin"
        )

    def _early_end(self, logits: Tensor, history: History) -> None:
        early = (history.new < self.min_new)[:, None]
        score = logits.gather(1, self.end_tokens)
        logits.scatter_(1, self.end_tokens, torch.where(early, -torch.inf, score))
