"""Prompts that are too long: as much of one text is kept as fits, and nothing around it is touched.

    Template ......... [column: kept | cut] .........     truncate_right
    Template ......... [cut | column: kept] .........     truncate_left

Knows nothing of tokens but their number, and nothing of jobs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from batchgen.records import Failure, Prompt, Row


class CuttablePrompt(Protocol):
    """A prompt one text of which may be cut."""

    @property
    def text(self) -> str:
        """The text, whole."""

    def with_text(self, text: str) -> Prompt | Failure:
        """The prompt with another text in its place."""


@dataclass(frozen=True, slots=True)
class ColumnCut:
    """The text is a column of the row; what is around it is rendered anew."""

    row: Row
    column: str
    text: str
    render: Callable[[Row], Prompt | Failure]

    def with_text(self, text: str) -> Prompt | Failure:
        """The row's prompt with another text in the column."""
        return self.render(replace(self.row, fields={**self.row.fields, self.column: text}))


@dataclass(frozen=True, slots=True)
class MessageCut:
    """The text is one message of the conversation."""

    prompt: Prompt
    number: int

    @property
    def text(self) -> str:
        """The message, whole."""
        return self.prompt.messages[self.number].content

    def with_text(self, text: str) -> Prompt | Failure:
        """The conversation with another text in that message."""
        messages = list(self.prompt.messages)
        messages[self.number] = replace(messages[self.number], content=text)
        return replace(self.prompt, messages=tuple(messages))


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A prompt and its token ids."""

    prompt: Prompt
    token_ids: Sequence[int]


class LengthSearch:
    """How many characters to keep: the most that fit, in that one more would not.

    The first guess takes tokens to be of like length; from there it walks in growing steps until it has passed the
    place, and halves what lies between. About seven tokenizations, of this row alone; 14 would be halving alone for
    a text of 10,000 characters.
    """

    def __init__(self, cuttable: CuttablePrompt, *, length: int, limit: int) -> None:
        """Start; `length` tokens are the whole prompt, more than `limit`."""
        self.cuttable = cuttable
        self.best: Tokenized | None = None
        characters = len(cuttable.text)
        self._fits, self._exceeds = 0, characters
        excess = -(-(length - limit) * characters // length)
        self._step = max(1, excess // 16)
        self._probe = min(max(1, characters - excess), characters - 1)

    @property
    def done(self) -> bool:
        """Whether `best` is the answer; None then says that not even one character fits."""
        return self._exceeds - self._fits <= 1

    @property
    def probe(self) -> int:
        """The number of characters to try next, between 1 and all but one."""
        return self._probe

    def update(self, outcome: Tokenized | None) -> None:
        """Go on after a try: the prompt if it fits, else None."""
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
    """Run all searches to their ends, each round in one call of `encode`.

    Args:
        searches: one for each prompt; their `best` holds the outcome.
        encode: prompts to token ids, as of a `Tokenizer`.
        limit: most tokens of a prompt.
        keep: `keep(text, n)` is the part of n characters that stays.
    """
    while running := [search for search in searches if not search.done]:
        tried = [s.cuttable.with_text(keep(s.cuttable.text, s.probe)) for s in running]
        encoded = iter(encode([prompt for prompt in tried if isinstance(prompt, Prompt)]))
        for search, prompt in zip(running, tried, strict=True):
            # A template may fail on a shorter text (`doc.split()[7]`): that much does not do, then.
            token_ids = next(encoded) if isinstance(prompt, Prompt) else None
            if isinstance(prompt, Failure) or token_ids is None or isinstance(token_ids, Failure):
                search.update(None)
            else:
                search.update(Tokenized(prompt, token_ids) if len(token_ids) <= limit else None)
