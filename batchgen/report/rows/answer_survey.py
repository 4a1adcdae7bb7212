"""One pass over the answers: how they ended, how long they are, which are empty, failed or repeated."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.evaluation.comparing.scored_run import ScoredRun
from batchgen.metrics.statistics.intervals import Floats

MAX_FAILED = 50
"""Failed answers of which a report shows rows."""


@dataclass(frozen=True, slots=True)
class AnswerSurvey:
    """What a pass over the answers found.

    Attributes:
        finish_reasons: answers by finish reason; empty if the table has none.
        errors: failed and skipped answers by code.
        empty: answers without a character other than white space, although they did not fail.
        repeated: answers whose text another answer before them has; empty ones excluded.
        characters: length of each answer that is not null: float64.
        tokens: new tokens of each answer, where they are known: float64.
        failed: numbers of the first failed or skipped rows.
    """

    rows: int
    finish_reasons: Mapping[str, int]
    errors: Mapping[str, int]
    empty: int
    repeated: int
    characters: Floats
    tokens: Floats
    failed: Sequence[int]

    @property
    def cut(self) -> int:
        """Answers that reached max_new_tokens."""
        return self.finish_reasons.get("length", 0)

    @property
    def failures(self) -> int:
        return self.finish_reasons.get("error", 0)

    @property
    def skipped(self) -> int:
        return self.finish_reasons.get("skipped", 0)


def survey_answers(run: ScoredRun) -> AnswerSurvey:
    """Read the answers once, a row group at a time."""
    names = run.responses.schema.names
    own = {name: run.prefix + name for name in ("finish_reason", "error_code", "output_tokens")}
    own = {name: column for name, column in own.items() if column in names}
    reasons, errors = Counter[str](), Counter[str]()
    hashes, characters, tokens = [], [np.empty(0)], [np.empty(0)]
    failed: list[int] = []
    empty = first = 0
    for table in run.responses.row_groups([run.response, *own.values()]):
        texts = table.column(run.response).drop_null()
        lengths = pc.utf8_length(texts).to_numpy()
        characters.append(lengths.astype(np.float64))
        blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0)
        empty += pc.sum(blank).as_py() or 0
        hashes.append(pl.Series(pl.from_arrow(texts.filter(pc.invert(blank)))).hash().to_numpy())
        if "finish_reason" in own:
            reasons.update(_counts(table.column(own["finish_reason"])))
        if "error_code" in own:
            codes = table.column(own["error_code"])
            errors.update(_counts(codes))
            failed += (np.flatnonzero(codes.is_valid().to_numpy()) + first).tolist()
        if "output_tokens" in own:
            known = table.column(own["output_tokens"]).drop_null()
            tokens.append(known.to_numpy().astype(np.float64))
        first += table.num_rows
    distinct = len(np.unique(np.concatenate(hashes))) if hashes else 0
    return AnswerSurvey(
        rows=first,
        finish_reasons=reasons,
        errors=errors,
        empty=empty,
        repeated=sum(map(len, hashes)) - distinct,
        characters=np.concatenate(characters),
        tokens=np.concatenate(tokens),
        failed=failed[:MAX_FAILED],
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = column.drop_null().value_counts().to_pylist()
    return {str(one["values"]): one["counts"] for one in counted}
