"""Queries to a scoring model about answers, as token ids: how likely is a text after a context?

`metric_queries.py` queries about texts after the row's own prompt, `judging/queries.py` about the verdicts of a judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from batchgen.records import Failure


@dataclass(frozen=True, slots=True)
class LikelihoodQuery:
    """How likely is this text after this context? Token ids, at least one each; `note` is stored with the result."""

    context: Sequence[int]
    token_ids: Sequence[int]
    note: str = ""


@dataclass(frozen=True, slots=True)
class RollingQuery:
    """How likely is a text that is longer than the model's context? The windows score each of its tokens once."""

    windows: Sequence[LikelihoodQuery]
    note: str = ""

    @classmethod
    def of(
        cls, context: Sequence[int], token_ids: Sequence[int], *, length: int, stride: int
    ) -> "RollingQuery":
        """Windows of `length` tokens, each of which ends `stride` tokens after the one before, the last one at the end.

        A window scores the tokens that no window before it has scored, after all its other tokens. `context` is shorter
        than `length`, and `stride` too.
        """
        whole = [*context, *token_ids]
        begin, windows = len(context), list[LikelihoodQuery]()
        while begin < len(whole):
            end = min(length if not windows else begin + stride, len(whole))
            windows.append(LikelihoodQuery(whole[max(0, end - length) : begin], whole[begin:end]))
            begin = end
        return cls(tuple(windows))


@dataclass(frozen=True, slots=True)
class KnownResult:
    """Replaces a query that needs no model; `note` is the result."""

    note: str


Query = LikelihoodQuery | RollingQuery | KnownResult | Failure
"""A failure replaces a query that cannot be sent, such as a text that is too long."""


class QuerySource(Protocol):
    """Makes the queries about each answer."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns for the results, with their prefix."""

    def queries(self, table: pa.Table) -> Sequence[Sequence[Sequence[Query]]]:
        """For each column, for each row of the table, its queries."""
