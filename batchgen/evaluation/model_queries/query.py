"""What a model is asked about answers: texts after contexts, in tokens.

    metric_queries.py    what follows the row's own prompt
    queries.py       what a judge says next

Knows nothing of engines, nor of what becomes of the likelihoods: that is `scoring_pass.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from batchgen.records import Failure


@dataclass(frozen=True, slots=True)
class LikelihoodQuery:
    """A text after a context, as token ids, at least one each: how likely is it?

    `note` comes back with the likelihood, for whoever asks to be reminded of something.
    """

    context: Sequence[int]
    token_ids: Sequence[int]
    note: str = ""


@dataclass(frozen=True, slots=True)
class KnownResult:
    """In the place of a text that no model has to be asked about: `note` says what is known."""

    note: str


Query = LikelihoodQuery | KnownResult | Failure
"""A failure stands for a text that cannot be asked about."""


class QuerySource(Protocol):
    """What a model is asked about each answer."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns in which is told what was asked, `TOLD_PREFIX` included."""

    def ask(self, table: pa.Table) -> Sequence[Sequence[Sequence[Query]]]:
        """For each column, for each row of a table, the texts; a failure stands for one that cannot be asked about."""
