"""One metric in two runs: the rows that both scored, their difference by slice, and the flipped rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from batchgen.evaluation.block_scores import is_sum
from batchgen.metrics.base import Metric, SumMetric
from batchgen.metrics.statistics.intervals import Confidence, Floats, Integers
from batchgen.metrics.statistics.paired_tests import (
    PairedResult,
    PairedScores,
    compare_corpora,
    compare_means,
)
from batchgen.records import MetricRow

KEY = ("id", "sample")
"""The columns that pair rows."""
CLUSTER = "cluster"
SLICE = "slice_"
"""Prefix of the columns with the row's slice: one column for each entry of `evaluate.slices`."""

ROUNDING_TOLERANCE = 1e-4
"""Scores whose absolute or relative difference is at most this count as equal: in two queries a model's log-likelihoods
of one text differ by rounding, by up to 6e-5."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A row whose score changed."""

    id: str
    sample: int | None
    base: float
    new: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference over the rows that both runs scored.

    Attributes:
        base: the metric's value in the base run, over these rows.
        wins: rows with a better score in the new run; with a greater one, if the metric has no better
            direction.
    """

    n: int
    base: float
    new: float
    difference: PairedResult
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, slots=True)
class SliceDifference:
    """The difference over the rows of one slice; a row's slice is that of the base run.

    Exploratory: among many slices some differ by chance, and p is not adjusted for their number.
    """

    slice: str
    change: PairedDifference


@dataclass(frozen=True, slots=True)
class Noise:
    """How many rows differ between two runs of one job."""

    n: int
    flips: int

    @property
    def rate(self) -> float:
        """Flipped rows per row."""
        return self.flips / self.n


@dataclass(frozen=True, slots=True)
class PairedRows:
    """The rows that both runs scored.

    Attributes:
        rows: `id`, `sample`, `cluster`, columns of slices, `value`, `stats`, `value_new`, `stats_new`.
        unpaired: rows in common that only one run has a score for.
    """

    rows: pl.DataFrame
    unpaired: int


def pair_rows(base: pl.DataFrame, new: pl.DataFrame, common: pl.DataFrame) -> PairedRows:
    """Pair the scores of two runs: tables of one metric with `id`, `sample`, `value` and `stats`.

    `sample` is null if whole prompts are scored. `common` has `id` and `sample` of the rows to pair, in order, with their
    cluster and slices.
    """
    of_prompts = bool(new["sample"].is_null().all())
    key = ["id"] if of_prompts else list(KEY)
    rows = common.unique(key, keep="first", maintain_order=True)
    cluster = pl.col(CLUSTER if CLUSTER in rows.columns else "id").alias(CLUSTER)
    rows = rows.select(*key, cluster, pl.col(f"^{SLICE}\\d+$"))
    one = rows.join(base.drop("sample") if of_prompts else base, on=key, maintain_order="left")
    other = rows.select(key).join(
        new.drop("sample") if of_prompts else new, on=key, maintain_order="left"
    )
    pairs = _without_rounding(one.join(other, on=key, suffix="_new", maintain_order="left"))
    if of_prompts:
        pairs = pairs.with_columns(pl.lit(None, pl.Int32).alias("sample"))
    return PairedRows(pairs, one.height + other.height - 2 * pairs.height)


def _without_rounding(pairs: pl.DataFrame) -> pl.DataFrame:
    """Replace new scores that differ by rounding only, in value and statistics, by the old ones."""
    same = _same(pairs["value"].to_numpy(), pairs["value_new"].to_numpy())
    summed = pairs["stats"].is_not_null() & pairs["stats_new"].is_not_null()
    if summed.any():
        both = pairs.filter(summed)
        one, other = (np.array(both[c].to_list(), np.float64) for c in ("stats", "stats_new"))
        same[summed.to_numpy()] &= _same(one, other).all(axis=-1)
    return pairs.with_columns(
        pl.when(pl.Series(same))
        .then(pl.col(name))
        .otherwise(pl.col(f"{name}_new"))
        .alias(f"{name}_new")
        for name in ("value", "stats")
    )


def _same(one: Floats, other: Floats) -> npt.NDArray[np.bool_]:
    return np.abs(other - one) <= ROUNDING_TOLERANCE * np.maximum(1.0, np.abs(one))


@dataclass(frozen=True, slots=True)
class MetricPairing:
    """The comparison of one metric. `metric` is None if the metric that made the scores is unknown."""

    row: MetricRow
    metric: Metric | None

    def change(self, pairs: pl.DataFrame) -> PairedDifference:
        """Compare over at least one row."""
        clusters = pairs[CLUSTER].rank("dense").to_numpy().astype(np.int64) - 1
        scores = PairedScores(pairs["value"].to_numpy(), pairs["value_new"].to_numpy(), clusters)
        confidence = Confidence(self.row.ci_level)
        if self.metric is not None and is_sum(self.metric):
            one, other = (_summed(pairs[column], clusters) for column in ("stats", "stats_new"))
            base, new = _corpus_value(self.metric, one), _corpus_value(self.metric, other)
            difference = compare_corpora(one, other, self.metric.finalize, confidence)
        else:
            base, new = float(scores.base.mean()), float(scores.new.mean())
            difference = compare_means(scores, confidence)
            if self.row.unit == "fraction":
                difference = difference.clipped(-1.0, 1.0)
        gains = self.gains(pairs)
        wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
        return PairedDifference(
            len(gains), base, new, difference, wins, len(gains) - wins - losses, losses
        )

    def gains(self, pairs: pl.DataFrame) -> Floats:
        """Improvement of each row; its increase, if the metric has no better direction: float64 [rows]."""
        direction = -1.0 if self.row.higher_is_better is False else 1.0
        gains: Floats = direction * (pairs["value_new"] - pairs["value"]).to_numpy()
        return gains

    def slices(self, pairs: pl.DataFrame) -> Iterator[SliceDifference]:
        """Compare over each slice, in the order of `evaluate.slices`, then by name."""
        for column in (name for name in pairs.columns if name.startswith(SLICE)):
            parts: Mapping[tuple[object, ...], pl.DataFrame]
            parts = pairs.partition_by(column, as_dict=True, maintain_order=True)
            for (name,), rows in sorted(parts.items(), key=lambda item: str(item[0])):
                yield SliceDifference(str(name), self.change(rows))


def find_flips(pairs: pl.DataFrame, gains: Floats, most: int) -> Sequence[Flip]:
    """The rows with the most negative gains, the worst first; ties in input order."""
    order = np.argsort(gains, kind="stable")[:most]
    worst = pairs[[int(row) for row in order if gains[row] < 0]]
    columns = ("id", "sample", "value", "value_new")
    return [Flip(*row) for row in worst.select(columns).iter_rows()]


def _corpus_value(metric: SumMetric, sums: Floats) -> float:
    return float(metric.finalize(sums.sum(axis=0)))


def _summed(stats: pl.Series, clusters: Integers) -> Floats:
    rows = np.array(stats.to_list(), np.float64)
    return np.column_stack([np.bincount(clusters, column) for column in rows.T])
