"""Truncates prompts that are too long: one text is cut so that the prompt fits, the rest stays unchanged.

Template ......... [column: kept | cut] .........     truncate_right
Template ......... [cut | column: kept] .........     truncate_left
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from batchgen.records import Failure, Prompt, Row


class CuttablePrompt(Protocol):
    """A prompt with a text that may be cut."""

    @property
    def text(self) -> str:
        """The uncut text."""

    def with_text(self, text: str) -> Prompt | Failure:
        """The prompt with another text instead."""


@dataclass(frozen=True, slots=True)
class ColumnCut:
    """The text is a column of the row; the prompt is rendered again."""

    row: Row
    column: str
    text: str
    render: Callable[[Row], Prompt | Failure]

    def with_text(self, text: str) -> Prompt | Failure:
        return self.render(replace(self.row, fields={**self.row.fields, self.column: text}))


@dataclass(frozen=True, slots=True)
class MessageCut:
    """The text is one message of the conversation."""

    prompt: Prompt
    number: int

    @property
    def text(self) -> str:
        return self.prompt.messages[self.number].content

    def with_text(self, text: str) -> Prompt | Failure:
        messages = list(self.prompt.messages)
        messages[self.number] = replace(messages[self.number], content=text)
        return replace(self.prompt, messages=tuple(messages))


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A prompt and its token ids."""

    prompt: Prompt
    token_ids: Sequence[int]


class LengthSearch:
    """Searches for the largest number of characters that fits.

    The first guess assumes tokens of equal length. Growing steps bracket the limit, then bisection. That takes about
    seven tokenizations of this row; bisection alone takes 14 for 10,000 characters.
    """

    def __init__(self, cuttable: CuttablePrompt, *, length: int, limit: int) -> None:
        """`length`: tokens of the uncut prompt, more than `limit`."""
        self.cuttable = cuttable
        self.best: Tokenized | None = None
        characters = len(cuttable.text)
        self._fits, self._exceeds = 0, characters
        excess = -(-(length - limit) * characters // length)
        self._step = max(1, excess // 16)
        self._probe = min(max(1, characters - excess), characters - 1)

    @property
    def done(self) -> bool:
        """Whether `best` is final; None means that not even one character fits."""
        return self._exceeds - self._fits <= 1

    @property
    def probe(self) -> int:
        """The number of characters to try next; at least 1, less than all."""
        return self._probe

    def update(self, outcome: Tokenized | None) -> None:
        """Choose the next probe; `outcome` is the prompt if it fits, else None."""
        if outcome is not None:
            self.best, self._fits = outcome, self._probe
        else:
            self._exceeds = self._probe
        if self._exceeds - self._fits > 2 * self._step:
            self._probe = (
                self._fits + self._step if outcome is not None else self._exceeds - self._step
            )
            self._step *= 4
        else:
            self._probe = (self._fits + self._exceeds) // 2


def shorten(
    searches: Sequence[LengthSearch],
    encode: Callable[[Sequence[Prompt]], Sequence[Sequence[int] | Failure]],
    *,
    limit: int,
    keep: Callable[[str, int], str],
) -> None:
    """Finish all searches, with one call of `encode` a round; the results are their `best`.

    Args:
        searches: one for each prompt.
        encode: `Tokenizer.encode`.
        limit: maximum tokens of a prompt.
        keep: `keep(text, n)` is the part of n characters that stays.
    """
    while running := [search for search in searches if not search.done]:
        tried = [s.cuttable.with_text(keep(s.cuttable.text, s.probe)) for s in running]
        encoded = iter(encode([prompt for prompt in tried if isinstance(prompt, Prompt)]))
        for search, prompt in zip(running, tried, strict=True):
            # A template may fail on a shorter text (`doc.split()[7]`), which counts as too long.
            token_ids = next(encoded) if isinstance(prompt, Prompt) else None
            if isinstance(prompt, Failure) or token_ids is None or isinstance(token_ids, Failure):
                search.update(None)
            else:
                search.update(Tokenized(prompt, token_ids) if len(token_ids) <= limit else None)
