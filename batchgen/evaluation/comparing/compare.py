"""`compare`: two scored runs, or files, row by row.

    scores.parquet of both ──paired on id and sample──> rows that both scored, without those whose prompt changed
                           ──> difference, interval, p, verdict for each metric and slice; the flipped rows

The statistics of one metric are in `pairs.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from batchgen.errors import UsageError
from batchgen.evaluation.comparing.pairs import (
    KEY,
    Flip,
    MetricPairing,
    Noise,
    SliceDifference,
    find_flips,
    pair_rows,
)
from batchgen.evaluation.comparing.scored_run import ScoredRun, open_scored_run
from batchgen.evaluation.resolve_evaluation import read_recorded_metrics
from batchgen.job.evaluate import Bins
from batchgen.metrics.statistics.paired_tests import (
    ComparisonVerdict,
    PairedResult,
    adjust_holm,
    decide_verdict,
)
from batchgen.records import MetricRow

MAX_EXAMPLE_IDS = 10
"""Most ids to list of rows that do not pair."""


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric in both runs, over the rows that both scored.

    Attributes:
        base: its value in the base run, over these rows.
        unpaired: common rows with a score in only one run.
        detectable: smallest difference that is detected with a power of 80 % at the 5 % level.
        p: of the difference, adjusted for the number of primary metrics (Holm).
        primary: as in the job; if the job has no primary metric, all are.
        wins: rows with a better score in the new run; with a greater one, if the metric has no better
            direction.
        slices: differences over each slice; exploratory, since p is not adjusted for their number.
        noise: differing rows between two runs of one job; None without `repeat_runs`.
        regressions: rows that got worse, the worst first; `improvements` those that got better, the best first.
    """

    metric: str
    unit: str
    primary: bool
    higher_is_better: bool | None
    base: float | None
    new: float | None
    difference: PairedResult
    verdict: ComparisonVerdict
    n: int = 0
    unpaired: int = 0
    detectable: float | None = None
    p: float | None = None
    wins: int = 0
    ties: int = 0
    losses: int = 0
    regressions: Sequence[Flip] = ()
    improvements: Sequence[Flip] = ()
    slices: Sequence[SliceDifference] = ()
    noise: Noise | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Excluded rows, and some of their ids."""

    count: int
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs compared.

    Attributes:
        common: rows (id and sample) that both have, with the same prompt.
        prompts_known: both have prompt hashes, so changed prompts are detected.
    """

    base: Path
    new: Path
    common: int
    only_base: Unpaired
    only_new: Unpaired
    changed_prompts: Unpaired
    prompts_known: bool
    metrics: Sequence[MetricComparison]

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "base": str(self.base), "new": str(self.new)}


def compare(
    base: Path | str,
    new: Path | str,
    *,
    metrics: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
    repeat_runs: tuple[Path | str, Path | str] | None = None,
    max_examples: int = MAX_EXAMPLE_IDS,
) -> Comparison:
    """Compare two runs, or two folders that `score` wrote.

    Args:
        base: the folder of the run to compare with.
        new: the other folder.
        metrics: default: all that both have.
        margins: largest differences that count as equivalent, by metric.
        repeat_runs: two runs of one job: how many rows differ between them is the noise.
        max_examples: most rows to list for each metric and direction.

    Raises:
        UsageError: a folder has no scores, a metric is not in both, or `repeat_runs` are runs of different jobs.
        StateError: files are damaged, or two rows have the same id and sample.
    """
    before, now = open_scored_run(Path(base)), open_scored_run(Path(new))
    comparison = compare_runs(
        before, now, metrics=metrics, margins=margins, cuts=now.slices, max_examples=max_examples
    )
    if repeat_runs is None:
        return comparison
    one, other = open_scored_run(Path(repeat_runs[0])), open_scored_run(Path(repeat_runs[1]))
    if one.facts.get("fingerprint") != other.facts.get("fingerprint"):
        raise UsageError(
            f"--repeat-runs: {one.path} and {other.path} are runs of different jobs",
            hint="Run one job twice, the second time with another --output.",
        )
    compared = [replace(m, noise=_noise(one, other, m.metric)) for m in comparison.metrics]
    return replace(comparison, metrics=compared)


def compare_runs(
    base: ScoredRun,
    new: ScoredRun,
    *,
    metrics: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
    cuts: Sequence[str | Bins] = (),
    max_examples: int = MAX_EXAMPLE_IDS,
) -> Comparison:
    """Compare two runs; see `compare`. `cuts` slice the rows of the base run."""
    names = _names(base, new, metrics)
    margins = margins or {}
    if unknown := [name for name in margins if name not in names]:
        raise UsageError(
            f"{unknown[0]!r} is not a metric of both runs", hint=f"Use one of: {', '.join(names)}."
        )
    before, rows = base.rows(cuts), new.rows()
    joined = before.join(rows, on=list(KEY), how="inner", suffix="_new", maintain_order="left")
    prompts_known = "prompt" in before.columns and "prompt" in rows.columns
    different = pl.col("prompt") != pl.col("prompt_new") if prompts_known else pl.lit(False)
    changed = joined.filter(different)
    common = joined.join(changed.select(KEY), on=list(KEY), how="anti", maintain_order="left")
    compared = [_compare(base, new, n, common=common, max_examples=max_examples) for n in names]
    return Comparison(
        base=base.path,
        new=new.path,
        common=common.height,
        only_base=_unpaired(before.join(rows, on=list(KEY), how="anti", maintain_order="left")),
        only_new=_unpaired(rows.join(before, on=list(KEY), how="anti", maintain_order="left")),
        changed_prompts=_unpaired(changed),
        prompts_known=prompts_known,
        metrics=_decided(compared, margins),
    )


def _noise(one: ScoredRun, other: ScoredRun, name: str) -> Noise | None:
    """Differing rows between two runs of one job; None if no row was scored in both."""
    if name not in one.metrics or name not in other.metrics:
        return None
    pairs = pair_rows(one.metric_scores(name), other.metric_scores(name), one.rows()).rows
    if pairs.is_empty():
        return None
    return Noise(pairs.height, int((pairs["value"] != pairs["value_new"]).sum()))


def _names(base: ScoredRun, new: ScoredRun, chosen: Sequence[str]) -> list[str]:
    both = [name for name in new.metrics if name in base.metrics]
    for name in chosen:
        if name not in both:
            where = base.path if name in new.metrics else new.path
            raise UsageError(
                f"{where} has no metric {name!r}", hint=f"Both have: {', '.join(both) or 'none'}."
            )
    if not both:
        raise UsageError(
            f"{base.path} and {new.path} have no metric in common",
            hint=f"They have {', '.join(base.metrics)}; and {', '.join(new.metrics)}. Add one with `batchgen score`.",
        )
    return list(chosen) or both


def _unpaired(rows: pl.DataFrame) -> Unpaired:
    ids = rows["id"].unique(maintain_order=True).head(MAX_EXAMPLE_IDS)
    return Unpaired(rows.height, ids.to_list())


def _compare(
    base: ScoredRun, new: ScoredRun, name: str, *, common: pl.DataFrame, max_examples: int
) -> MetricComparison:
    before, now = base.metrics[name], new.metrics[name]
    if before.fingerprint != now.fingerprint:
        reason = "the definitions differ: score both again with the same options and references"
        return _without(now, before.value, now.value, reason)
    paired = pair_rows(base.metric_scores(name), new.metric_scores(name), common)
    pairs = paired.rows
    if pairs.is_empty():
        reason = "no common row has a score in both"
        if not new.has_scores(name):
            reason = "a value of the whole set: its rows have no scores to pair"
        return _without(now, before.value, now.value, reason)
    pairing = MetricPairing(now, read_recorded_metrics(new.facts).get(name))
    change, gains = pairing.change(pairs), pairing.gains(pairs)
    same = ("base", "new", "difference", "n", "wins", "ties", "losses")
    return MetricComparison(
        metric=name,
        unit=now.unit,
        primary=now.primary,
        higher_is_better=now.higher_is_better,
        verdict="inconclusive",
        unpaired=paired.unpaired,
        detectable=change.difference.detectable,
        p=change.difference.p,
        regressions=find_flips(pairs, gains, max_examples),
        improvements=find_flips(pairs, -gains, max_examples),
        slices=list(pairing.slices(pairs)),
        **{key: getattr(change, key) for key in same},
    )


def _without(
    now: MetricRow, base: float | None, new: float | None, reason: str
) -> MetricComparison:
    value = new - base if base is not None and new is not None else None
    return MetricComparison(
        metric=now.metric,
        unit=now.unit,
        primary=now.primary,
        higher_is_better=now.higher_is_better,
        base=base,
        new=new,
        difference=PairedResult(value, None, None, None, None, reason),
        verdict="not comparable",
        reason=reason,
    )


def _decided(
    compared: Sequence[MetricComparison], margins: Mapping[str, float]
) -> list[MetricComparison]:
    """Add verdicts, and adjust p-values within the family of the primary metrics."""
    primary = any(one.primary for one in compared)
    family = [one for one in compared if one.primary or not primary]
    corrected = adjust_holm([one.p for one in family])
    adjusted = dict(zip((one.metric for one in family), corrected, strict=True))
    decided = []
    for one in compared:
        p, verdict = adjusted.get(one.metric, one.p), one.verdict
        if not one.reason:
            margin = margins.get(one.metric)
            verdict = decide_verdict(one.difference, p, one.higher_is_better, margin)
        decided.append(replace(one, p=p, primary=one.metric in adjusted, verdict=verdict))
    return decided
