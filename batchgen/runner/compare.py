"""`compare`: two scored runs, or files, row by row.

    scores.parquet of both ──paired on id and sample──> rows that both scored, less those whose prompt changed
        ──> difference, interval, p, verdict for each metric; the rows that flipped

Knows nothing of the command line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from batchgen.errors import UsageError
from batchgen.metrics.aggregate import Confidence, Integers
from batchgen.metrics.base import SumMetric
from batchgen.metrics.compare import (
    Difference,
    Pairs,
    Verdict,
    compare_corpora,
    compare_means,
    holm,
    verdict,
)
from batchgen.metrics.intervals import Floats
from batchgen.metrics.scoring import is_sum
from batchgen.records import MetricRow
from batchgen.runner.evaluation import recorded_metrics
from batchgen.runner.scoring import WHOLE_SET
from batchgen.runner.sides import KEY, Side

NAMED = 10
"""Ids that are named where some do not pair."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A row whose score changed."""

    id: str
    sample: int | None
    base: float
    new: float


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric in both runs, over the rows that both scored.

    Attributes:
        base: its value in the base run, over these rows.
        new: its value in the new run.
        unpaired: rows in common that only one run has a score for.
        detectable: smallest difference that such data would find 4 times out of 5, at 5 %.
        p: of the difference, adjusted for the number of metrics that decide (Holm).
        primary: whether it is one of those; all are if the job names none.
        wins: rows that are better in the new run; greater, where neither is better.
        regressions: rows that got worse, the worst first.
        improvements: rows that got better, the best first.
        verdict: what it comes to.
        reason: why it is not comparable; empty otherwise.
    """

    metric: str
    unit: str
    n: int
    unpaired: int
    base: float | None
    new: float | None
    difference: Difference
    detectable: float | None
    p: float | None
    primary: bool
    higher_is_better: bool | None
    wins: int
    ties: int
    losses: int
    regressions: Sequence[Flip]
    improvements: Sequence[Flip]
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Rows that were left out, and some of their ids."""

    count: int
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs compared.

    Attributes:
        common: rows (id and sample) that both have, with the same prompt.
        prompts_known: whether both say what was asked, so that changed prompts are found.
    """

    base: Path
    new: Path
    common: int
    only_base: Unpaired
    only_new: Unpaired
    changed_prompts: Unpaired
    prompts_known: bool
    metrics: Sequence[MetricComparison]


def compare_sides(
    base: Side,
    new: Side,
    *,
    metrics: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
    named: int = NAMED,
) -> Comparison:
    """Compare two runs.

    Args:
        base: what was before.
        new: what is now.
        metrics: only these; left out, all that both have.
        margins: differences that do not matter, by metric.
        named: most rows to name for each metric and direction.

    Raises:
        UsageError: a metric is not in both.
        StateError: rows cannot be told apart.
    """
    names = _names(base, new, metrics)
    margins = margins or {}
    if unknown := [name for name in margins if name not in names]:
        raise UsageError(
            f"there is no metric {unknown[0]!r} in both", hint=f"There are: {', '.join(names)}."
        )
    rows, before = new.rows(), base.rows()
    joined = before.join(rows, on=list(KEY), how="inner", suffix="_new", maintain_order="left")
    prompts_known = "prompt" in before.columns and "prompt" in rows.columns
    changed = (
        joined.filter(pl.col("prompt") != pl.col("prompt_new")) if prompts_known else joined.head(0)
    )
    common = joined.join(changed.select(KEY), on=list(KEY), how="anti", maintain_order="left")
    found = [_compare(base, new, name, common=common, named=named) for name in names]
    return Comparison(
        base=base.path,
        new=new.path,
        common=common.height,
        only_base=_unpaired(before.join(rows, on=list(KEY), how="anti", maintain_order="left")),
        only_new=_unpaired(rows.join(before, on=list(KEY), how="anti", maintain_order="left")),
        changed_prompts=_unpaired(changed),
        prompts_known=prompts_known,
        metrics=_decided(found, margins),
    )


def _names(base: Side, new: Side, asked: Sequence[str]) -> list[str]:
    both = [name for name in new.metrics if name in base.metrics]
    for name in asked:
        if name not in both:
            where = base.path if name in new.metrics else new.path
            raise UsageError(
                f"{where} has no metric {name!r}", hint=f"In both: {', '.join(both) or 'none'}."
            )
    if not both:
        raise UsageError(
            f"{base.path} and {new.path} have no metric in common",
            hint=f"They have {', '.join(base.metrics)}; and {', '.join(new.metrics)}. `batchgen score` measures more.",
        )
    return list(asked) or both


def _unpaired(rows: pl.DataFrame) -> Unpaired:
    return Unpaired(rows.height, rows["id"].unique(maintain_order=True).head(NAMED).to_list())


def _compare(
    base: Side, new: Side, name: str, *, common: pl.DataFrame, named: int
) -> MetricComparison:
    before, now = base.metrics[name], new.metrics[name]
    if before.fingerprint != now.fingerprint:
        reason = (
            "measured differently in both: score them again with the same options and references"
        )
        return _without(now, before.value, now.value, reason)
    pairs, unpaired = _paired(base.of(name), new.of(name), common)
    if pairs.is_empty():
        reason = "no rows in common that both have a score for"
        if before.method.endswith(WHOLE_SET):
            reason = "a measure of the whole set: its rows have no scores to pair"
        return _without(now, before.value, now.value, reason)
    metric = recorded_metrics(new.facts).get(name)
    clusters = pairs["cluster"].rank("dense").to_numpy().astype(np.int64) - 1
    scores = Pairs(pairs["value"].to_numpy(), pairs["value_new"].to_numpy(), clusters)
    confidence = Confidence(now.ci_level)
    if metric is not None and is_sum(metric):
        one, other = (_summed(pairs[column], clusters) for column in ("stats", "stats_new"))
        values = (_corpus_value(metric, one), _corpus_value(metric, other))
        difference = compare_corpora(one, other, metric.finalize, confidence)
    else:
        values = (float(scores.base.mean()), float(scores.new.mean()))
        difference = compare_means(scores, confidence)
        if now.unit == "fraction":
            difference = difference.within(-1.0, 1.0)
    direction = -1.0 if now.higher_is_better is False else 1.0
    gains = direction * (scores.new - scores.base)
    return MetricComparison(
        metric=name,
        unit=now.unit,
        n=pairs.height,
        unpaired=unpaired,
        base=values[0],
        new=values[1],
        difference=difference,
        detectable=difference.detectable,
        p=difference.p,
        primary=now.primary,
        higher_is_better=now.higher_is_better,
        wins=int((gains > 0).sum()),
        ties=int((gains == 0).sum()),
        losses=int((gains < 0).sum()),
        regressions=_flips(pairs, gains, named),
        improvements=_flips(pairs, -gains, named),
        verdict="inconclusive",
    )


def _paired(
    base: pl.DataFrame, new: pl.DataFrame, common: pl.DataFrame
) -> tuple[pl.DataFrame, int]:
    """The rows that both scored, with their cluster; and how many of the common ones only one did."""
    of_prompts = bool(new["sample"].is_null().all())
    key = ["id"] if of_prompts else list(KEY)
    rows = common.unique(key, keep="first", maintain_order=True)
    cluster = "cluster" if "cluster" in rows.columns else "id"
    rows = rows.select(*key, pl.col(cluster).alias("cluster"))
    one = rows.join(base.drop("sample") if of_prompts else base, on=key, maintain_order="left")
    other = rows.join(new.drop("sample") if of_prompts else new, on=key, maintain_order="left")
    pairs = one.join(other.drop("cluster"), on=key, suffix="_new", maintain_order="left")
    if of_prompts:
        pairs = pairs.with_columns(pl.lit(None, pl.Int32).alias("sample"))
    return pairs, one.height + other.height - 2 * pairs.height


def _corpus_value(metric: SumMetric, sums: Floats) -> float:
    return float(metric.finalize(sums.sum(axis=0)))


def _summed(stats: pl.Series, clusters: Integers) -> Floats:
    rows = np.array(stats.to_list(), np.float64)
    return np.column_stack([np.bincount(clusters, column) for column in rows.T])


def _flips(pairs: pl.DataFrame, gains: Floats, named: int) -> list[Flip]:
    """The rows with the least gain, below 0, the worst first; of equals, the first in the input."""
    order = np.argsort(gains, kind="stable")[:named]
    worst = pairs[[int(place) for place in order if gains[place] < 0]]
    columns = ("id", "sample", "value", "value_new")
    return [Flip(*row) for row in worst.select(columns).iter_rows()]


def _without(
    now: MetricRow, base: float | None, new: float | None, reason: str
) -> MetricComparison:
    value = new - base if base is not None and new is not None else None
    return MetricComparison(
        metric=now.metric,
        unit=now.unit,
        n=0,
        unpaired=0,
        base=base,
        new=new,
        difference=Difference(value, None, None, None, None, reason),
        detectable=None,
        p=None,
        primary=now.primary,
        higher_is_better=now.higher_is_better,
        wins=0,
        ties=0,
        losses=0,
        regressions=(),
        improvements=(),
        verdict="not comparable",
        reason=reason,
    )


def _decided(
    found: Sequence[MetricComparison], margins: Mapping[str, float]
) -> list[MetricComparison]:
    """The same with p-values adjusted within the family that decides, and verdicts."""
    primary = any(one.primary for one in found)
    family = [one for one in found if one.primary or not primary]
    adjusted = dict(zip((o.metric for o in family), holm([o.p for o in family]), strict=True))
    decided = []
    for one in found:
        p = adjusted.get(one.metric, one.p)
        said: Verdict = one.verdict
        if not one.reason:
            margin = margins.get(one.metric)
            said = verdict(one.difference, p, one.higher_is_better, margin)
        decided.append(replace(one, p=p, primary=one.metric in adjusted, verdict=said))
    return decided
