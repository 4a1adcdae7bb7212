"""How uncertain the scores of an answer are, so that people see the uncertain ones first.

    flip        a judge changed its verdict with the order of two answers
    disagree    a judge and a metric disagree
    near        a score is close to the threshold of a gate

Each adds a number between 0 and 1, and its name to the reasons if the number is at least `_NAMED`.
"""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl
import pyarrow.compute as pc

from batchgen.evaluation.comparing.scored_run import KEY
from batchgen.job.evaluate import Gate
from batchgen.records import MetricRow
from batchgen.review.queue.reviewed_run import ReviewedRun

FLIP, DISAGREE, NEAR = "flip", "disagree", "near"
_NAMED = 0.5
_NEARNESS = 0.1
"""A score that is further from a threshold than this share of the metric's range is not close to it."""
_FLIP_SUFFIX = "_position_flip"


def add_uncertainty(run: ReviewedRun, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with `uncertainty`, a number, and the `reasons` for it. All have 0 where nothing was measured."""
    metrics = run.scored.metrics
    values = _values(run, rows, [name for name in metrics if metrics[name].value is not None])
    found = {
        FLIP: _largest(values, _flips(run)),
        DISAGREE: _largest(values, _disagreements(run, values)),
        NEAR: _largest(values, _nearness(run.gates, metrics, values)),
    }
    parts = pl.DataFrame({name: values.select(one).to_series() for name, one in found.items()})
    reasons = [
        pl.when(pl.col(name) >= _NAMED)
        .then(pl.lit([name]))
        .otherwise(pl.lit([], pl.List(pl.String)))
        for name in found
    ]
    return rows.drop("reasons").with_columns(
        parts.select(pl.sum_horizontal(*found).alias("uncertainty")).to_series(),
        parts.select(pl.concat_list(reasons).alias("reasons")).to_series(),
    )


def _values(run: ReviewedRun, rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """The score of each row by each metric: float64 [rows, metrics], null where there is none."""
    wide = rows.select(*KEY)
    if not names:
        return wide
    columns = ["id", "sample", "metric", "value"]
    tables = run.scored.scores.row_groups(columns)
    scored = [pl.DataFrame(pl.from_arrow(t.filter(pc.field("value").is_valid()))) for t in tables]
    scores = pl.concat(scored).group_by(["metric", *KEY]).agg(pl.col("value").first())
    for name in names:
        own = scores.filter(pl.col("metric") == name).select(*KEY, pl.col("value").alias(name))
        # A prompt that is scored by all its answers has no sample.
        keys = ["id"] if own["sample"].null_count() else list(KEY)
        own = own.select(*keys, name)
        wide = wide.join(own, on=keys, how="left", maintain_order="left")
    return wide


def _largest(values: pl.DataFrame, found: Iterator[pl.Expr]) -> pl.Expr:
    """The largest of some numbers of each row, 0 without any."""
    expressions = [one.fill_null(0.0).clip(0.0, 1.0) for one in found]
    if not expressions:
        return pl.repeat(0.0, values.height)
    return pl.max_horizontal(expressions)


def _flips(run: ReviewedRun) -> Iterator[pl.Expr]:
    names = (f"{judge}{_FLIP_SUFFIX}" for judge in run.judges)
    return (pl.col(name) for name in names if name in run.scored.metrics)


def _disagreements(run: ReviewedRun, values: pl.DataFrame) -> Iterator[pl.Expr]:
    """The distance of each judge's score from each metric's, both from 0 (worst) to 1 (best)."""
    directed = [row for row in run.metrics if row.higher_is_better is not None]
    directed = [row for row in directed if row.metric in values.columns]
    own = tuple(f"{judge}_" for judge in run.judges)
    judges = [row for row in directed if row.metric in run.judges]
    others = [row for row in directed if row not in judges and not row.metric.startswith(own)]
    if not own:
        return
    for judge in judges:
        for metric in others:
            yield (_quality(judge) - _quality(metric)).abs()


def _quality(row: MetricRow) -> pl.Expr:
    """A score from 0 to 1: by the range of the metric, or by rank where it has none."""
    value = pl.col(row.metric)
    if row.least is not None and row.most is not None:
        share = (value - row.least) / (row.most - row.least)
    else:
        share = (value.rank() - 0.5) / value.count()
    return share if row.higher_is_better else 1 - share


def _nearness(
    gates: Sequence[Gate], metrics: Mapping[str, MetricRow], values: pl.DataFrame
) -> Iterator[pl.Expr]:
    """1 at the threshold of a gate, 0 at a distance of `_NEARNESS`. Metrics that are 0 or 1 are never close."""
    for gate in gates:
        if gate.metric not in values.columns or values[gate.metric].n_unique() <= 3:
            continue
        row, column = metrics[gate.metric], values[gate.metric]
        low = row.least if row.least is not None else column.quantile(0.05)
        high = row.most if row.most is not None else column.quantile(0.95)
        width = float((high or 0.0) - (low or 0.0))
        for bound in (gate.min, gate.max):
            if bound is not None and width > 0:
                yield 1 - (pl.col(gate.metric) - bound).abs() / (_NEARNESS * width)
