"""Which answers are reviewed, and in which order: a condition, pairs with another run, an order, groups, a number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import pyarrow.compute as pc

from batchgen.arrow.nested_column import column_at, column_paths, split_path
from batchgen.arrow.row_filter import parse_where
from batchgen.arrow.values import key_texts
from batchgen.errors import UsageError
from batchgen.evaluation.comparing.scored_run import KEY, ScoredRun
from batchgen.input.row_sample import sample_keys
from batchgen.review.queue.reviewed_run import ReviewedRun
from batchgen.review.queue.uncertainty import add_uncertainty

Order = Literal["random", "uncertain", "file"]
MOST = 1000
"""Answers in a queue without `sample`: nobody rates more of them."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """What is reviewed.

    Attributes:
        where: an SQL condition on the columns; empty for all answers.
        by: a column, or a field such as `parsed.label`, whose values take turns; empty for one group.
        sample: the number of answers; None for up to `MOST`.
    """

    where: str = ""
    by: str = ""
    sample: int | None = None
    seed: int = 0
    order: Order = "random"


@dataclass(frozen=True, slots=True)
class QueuedAnswer:
    """An answer to review: its number among all answers, and that of the answer with which it is compared."""

    row: int
    id: str
    sample: int
    other_row: int | None = None
    reasons: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ReviewQueue:
    """The answers in order.

    Attributes:
        found: answers that could be reviewed; more than `answers` if a number was given.
        unanswered: rows that fulfil the condition and have no answer.
        changed_prompts, equal: pairs that were left out, as their prompts differ or their answers do not.
    """

    answers: Sequence[QueuedAnswer]
    found: int
    unanswered: int = 0
    changed_prompts: int = 0
    equal: int = 0


def choose_queue(
    run: ReviewedRun, options: QueueOptions, other: ReviewedRun | None = None
) -> ReviewQueue:
    """Choose the answers; with `other`, those to whose prompts it has another answer.

    Raises:
        UsageError: a column is missing, the condition is invalid, or no answer is left.
    """
    rows = _rows(run.scored, options)
    unanswered = rows.height - int(rows["answered"].sum())
    rows = rows.filter("answered")
    changed = equal = 0
    if other is not None:
        paired = _paired(rows, _rows(other.scored, QueueOptions()).filter("answered"))
        same = paired.filter(pl.col("prompt").eq_missing(pl.col("other_prompt")))
        rows = same.filter(pl.col("text") != pl.col("other_text"))
        changed, equal = paired.height - same.height, same.height - rows.height
        if rows.is_empty():
            raise _no_pairs(run, other, changed, equal)
    elif rows.is_empty():
        problem = (
            f"{run.scored.path} has no answer{' that fulfils --where' if options.where else ''}"
        )
        raise UsageError(problem, hint="Look at the rows with `batchgen show`.")
    chosen = _ordered(run, rows, options).head(options.sample or MOST)
    answers = [
        QueuedAnswer(one["row"], one["id"], one["sample"], one.get("other_row"), one["reasons"])
        for one in chosen.to_dicts()
    ]
    return ReviewQueue(answers, rows.height, unanswered, changed, equal)


def _no_pairs(run: ReviewedRun, other: ReviewedRun, changed: int, equal: int) -> UsageError:
    problem = (
        f"{run.scored.path} and {other.scored.path} have no different answers to the same prompt"
    )
    counts = [(changed, "prompts differ"), (equal, "answers are equal")]
    if details := ", ".join(f"{n:,} {what}" for n, what in counts if n):
        problem += f": {details}"
    return UsageError(problem, hint="Give another run of the same prompts, with the same ids.")


def _rows(run: ScoredRun, options: QueueOptions) -> pl.DataFrame:
    """Number, id, sample, prompt hash, hash of the answer, group of each row that fulfils the condition."""
    schema = run.responses.schema.remove_metadata()
    if options.by and options.by not in column_paths(schema):
        raise UsageError(
            f"--by: {run.path} has no column {options.by!r}",
            hint=f"Its columns are {', '.join(schema.names)}.",
        )
    condition = parse_where(options.where, schema)
    group = [split_path(options.by, schema.names)[0]] if options.by else []
    code = [name for name in (f"{run.prefix}error_code",) if name in schema.names]
    wanted = {run.response, *code, *group, *(condition.columns if condition else ())}
    blocks = run.blocks((*KEY, "prompt"))
    next(blocks)  # an empty one, which has the columns
    found, first = [pl.DataFrame(schema=_EMPTY)], 0
    for keys, table in zip(blocks, run.responses.row_groups(sorted(wanted)), strict=True):
        texts = table.column(run.response)
        answered = pc.is_valid(texts)
        if code:
            answered = pc.and_(answered, pc.is_null(table.column(code[0])))
        mask = condition.mask(table) if condition else np.ones(table.num_rows, np.bool_)
        groups = key_texts(column_at(table, options.by)) if options.by else None
        block = keys.with_columns(
            pl.int_range(first, first + table.num_rows, dtype=pl.Int64, eager=True).alias("row"),
            pl.Series("text", texts).hash().alias("text"),
            pl.Series("answered", answered),
            pl.lit("").alias("group") if groups is None else pl.Series("group", groups),
        )
        if "prompt" not in block.columns:
            block = block.with_columns(pl.lit(None, pl.String).alias("prompt"))
        found.append(block.filter(pl.Series(mask)).select(list(_EMPTY)))
        first += table.num_rows
    return pl.concat(found)


_EMPTY = {
    "id": pl.String,
    "sample": pl.Int32,
    "prompt": pl.String,
    "row": pl.Int64,
    "text": pl.UInt64,
    "answered": pl.Boolean,
    "group": pl.String,
}


def _paired(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """The rows that have the same id and sample in both. A prompt that is not known counts as the same."""
    named = others.select(
        *KEY,
        pl.col("row").alias("other_row"),
        pl.col("prompt").alias("other_prompt"),
        pl.col("text").alias("other_text"),
    )
    paired = rows.join(named.unique(list(KEY), keep="last"), on=list(KEY), maintain_order="left")
    own, other = pl.col("prompt"), pl.col("other_prompt")
    return paired.with_columns(
        pl.coalesce(own, other).alias("prompt"), pl.coalesce(other, own).alias("other_prompt")
    )


def _ordered(run: ReviewedRun, rows: pl.DataFrame, options: QueueOptions) -> pl.DataFrame:
    """The rows in the order of review, with `reasons`."""
    keys = sample_keys(rows["row"].to_numpy(), options.seed)
    rows = rows.with_columns(
        pl.Series("drawn", keys), pl.lit([], pl.List(pl.String)).alias("reasons")
    )
    if options.order == "uncertain":
        rows = add_uncertainty(run, rows).sort("uncertainty", "drawn", descending=[True, False])
    else:
        rows = rows.sort("drawn" if options.order == "random" else "row")
    if options.by:
        turn = pl.int_range(pl.len()).over("group").alias("turn")
        rows = rows.with_columns(turn).sort("turn", maintain_order=True)
    return rows
