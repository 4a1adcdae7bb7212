"""`compare`: two scored runs, or files, row by row.

    scores.parquet of both ──paired on id and sample──> rows that a run scored, without those whose prompt changed
                           ──> difference, interval, p, verdict for each metric and slice; the flipped rows

The statistics of one metric are in `pairs.py`. Ids are numbers here (`text_order.py`): a row takes some dozens of bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from batchgen.errors import UsageError
from batchgen.evaluation.comparing.common_rows import MAX_EXAMPLE_IDS, Unpaired, pair_answers
from batchgen.evaluation.comparing.paired_rows import AnswerKeys, pair_rows
from batchgen.evaluation.comparing.pairs import (
    Flip,
    MetricPairing,
    Noise,
    SliceDifference,
    find_flips,
)
from batchgen.evaluation.comparing.scored_run import ScoredRun, open_scored_run, order_ids
from batchgen.evaluation.comparing.settings import ChangedSetting, changed_settings
from batchgen.evaluation.comparing.text_order import TextOrder
from batchgen.evaluation.resolve_evaluation import read_recorded_metrics
from batchgen.job.evaluate import Bins
from batchgen.metrics.human import is_rater_count
from batchgen.metrics.statistics.paired_results import (
    ComparisonVerdict,
    PairedResult,
    adjust_holm,
    decide_verdict,
)
from batchgen.records import MetricRow
from batchgen.shown_result import ShownResult
from batchgen.state.bucket_run import local_run


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric in both runs, over the common rows that at least one of them scored.

    Attributes:
        base: its value in the base run, over these rows.
        unpaired: common rows with a score in only one run. They count with the metric's worst value in the other run; if
            it has none, they are not among the `n` rows, and the difference has neither interval nor p.
        lost: those of them that only the base run scored.
        detectable: smallest difference that is detected with a power of 80 % at the 5 % level; None where hardly a row
            differs.
        margin: largest difference that counts as equivalent; None without one.
        pairs_needed: how many such rows would be enough for the verdict "equivalent"; None where none are needed, or no
            number would be enough.
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
    lost: int = 0
    margin: float | None = None
    pairs_needed: int | None = None
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


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(ShownResult):
    """Two runs compared.

    Attributes:
        common: rows (id and sample) that both have, with the same prompt unless `pairs_changed_prompts`.
        prompts_known: both have prompt hashes, so changed prompts are detected.
        changed_settings: what differs between the settings of the two.
        settings_known: both have settings; a table that `score` scored has only those of its evaluation.
    """

    base: Path
    new: Path
    common: int
    only_base: Unpaired
    only_new: Unpaired
    changed_prompts: Unpaired
    prompts_known: bool
    metrics: Sequence[MetricComparison]
    changed_settings: Sequence[ChangedSetting]
    settings_known: bool
    pairs_changed_prompts: bool = False

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "base": str(self.base), "new": str(self.new)}


def compare(  # noqa: PLR0913  # public: every argument but the first two has a default
    base: Path | str,
    new: Path | str,
    *,
    metrics: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
    repeat_runs: tuple[Path | str, Path | str] | None = None,
    max_examples: int = MAX_EXAMPLE_IDS,
    pair_changed_prompts: bool = False,
) -> Comparison:
    """Compare two runs, or two folders that `score` wrote.

    Args:
        base: the folder of the run to compare with.
        new: the other folder.
        metrics: default: all that both have, numbers of raters excepted.
        margins: largest differences that count as equivalent, by metric.
        repeat_runs: two runs of one job: how many rows differ between them is the noise.
        max_examples: most rows to list for each metric and direction.
        pair_changed_prompts: pair rows by id and sample alone, to compare prompts.

    Raises:
        UsageError: a folder has no scores, a metric is not in both, or `repeat_runs` are runs of different jobs.
        StateError: files are damaged, or two rows have the same id and sample.
    """
    before, now = open_scored_run(local_run(base)), open_scored_run(local_run(new))
    both = partial(compare_runs, before, now, metrics=metrics, margins=margins, cuts=now.slices)
    comparison = both(max_examples=max_examples, pair_changed_prompts=pair_changed_prompts)
    if repeat_runs is None:
        return comparison
    one, other = (open_scored_run(local_run(path)) for path in repeat_runs)
    if one.facts.get("fingerprint") != other.facts.get("fingerprint"):
        raise UsageError(
            f"--repeat-runs: {one.path} and {other.path} are runs of different jobs",
            hint="Run one job twice, the second time with another --output.",
        )
    ids = order_ids(one, other)
    rows = one.rows(ids)
    compared = [
        replace(m, noise=_noise(one, other, m.metric, rows=rows, ids=ids))
        for m in comparison.metrics
    ]
    return replace(comparison, metrics=compared)


def compare_runs(  # noqa: PLR0913  # the options of `compare`
    base: ScoredRun,
    new: ScoredRun,
    *,
    metrics: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
    cuts: Sequence[str | Bins] = (),
    max_examples: int = MAX_EXAMPLE_IDS,
    pair_changed_prompts: bool = False,
) -> Comparison:
    """Compare two runs; see `compare`. `cuts` slice the rows of the base run.

    With `pair_changed_prompts`, rows are paired by id and sample alone, to compare prompts.
    """
    names, margins = _names(base, new, metrics), margins or {}
    if unknown := [name for name in margins if name not in names]:
        raise UsageError(
            f"{unknown[0]!r} is not a metric of both runs", hint=f"Use one of: {', '.join(names)}."
        )
    ids = order_ids(base, new)
    found = pair_answers(base, new, ids, cuts, keep_changed=pair_changed_prompts)
    compared = [
        _compare(base, new, n, common=found.common, ids=ids, max_examples=max_examples)
        for n in names
    ]
    return Comparison(
        base=base.path,
        new=new.path,
        common=len(found.common),
        only_base=found.only_base,
        only_new=found.only_new,
        changed_prompts=found.changed_prompts,
        prompts_known=found.prompts_known,
        metrics=_decided(compared, margins),
        changed_settings=changed_settings(base, new),
        settings_known=base.has_settings and new.has_settings,
        pairs_changed_prompts=pair_changed_prompts,
    )


def _noise(
    one: ScoredRun, other: ScoredRun, name: str, *, rows: AnswerKeys, ids: TextOrder
) -> Noise | None:
    """Differing rows between two runs of one job; None if no row was scored in both."""
    if name not in one.metrics or name not in other.metrics:
        return None
    scores = one.metric_scores(name, ids), other.metric_scores(name, ids)
    pairs = pair_rows(*scores, rows)
    scored = pairs.both
    if not scored.any():
        return None
    differing = scored & (pairs.base.values != pairs.new.values)
    return Noise(int(scored.sum()), int(differing.sum()))


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
    return list(chosen) or [name for name in both if not is_rater_count(new.metrics, name)]


def _compare(
    base: ScoredRun,
    new: ScoredRun,
    name: str,
    *,
    common: AnswerKeys,
    ids: TextOrder,
    max_examples: int,
) -> MetricComparison:
    before, now = base.metrics[name], new.metrics[name]
    if before.fingerprint != now.fingerprint:
        reason = "the definitions differ: score both again with the same options and references"
        return _without(now, before.value, now.value, reason)
    pairing = MetricPairing(now, read_recorded_metrics(new.facts).get(name))
    before_scores, new_scores = (run.metric_scores(name, ids) for run in (base, new))
    paired = pair_rows(before_scores, new_scores, common, pairing.missing)
    if not paired.both.any():
        reason = "no common row has a score in both"
        if not new.has_scores(name):
            reason = "a value of the whole set: its rows have no scores to pair"
        return _without(now, before.value, now.value, reason)
    change = pairing.change(paired)
    counted = pairing.counted(paired)
    gains = pairing.gains(counted)
    same = ("base", "new", "difference", "n", "wins", "ties", "losses")
    find_ids = partial(base.find_ids, ids=ids)
    return MetricComparison(
        metric=name,
        unit=now.unit,
        primary=now.primary,
        higher_is_better=now.higher_is_better,
        verdict="inconclusive",
        unpaired=paired.lost + paired.gained,
        lost=paired.lost,
        detectable=change.difference.detectable,
        p=change.difference.p,
        regressions=find_flips(counted, gains, max_examples, find_ids),
        improvements=find_flips(counted, -gains, max_examples, find_ids),
        slices=list(pairing.slices(paired)),
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
        p, margin = adjusted.get(one.metric, one.p), margins.get(one.metric)
        one = replace(one, primary=one.metric in adjusted, margin=margin)
        decided.append(with_verdict(one, p))
    return decided


def with_verdict(one: MetricComparison, p: float | None) -> MetricComparison:
    """The same with an adjusted p, and the verdict by it."""
    one = replace(one, p=p)
    if one.reason:
        return one
    difference, margin = one.difference, one.margin
    verdict = decide_verdict(difference, p, one.higher_is_better, margin)
    needed = None
    if verdict == "inconclusive" and margin is not None and difference.value is not None:
        needed = difference.pairs_needed(margin - abs(difference.value))
    return replace(one, verdict=verdict, pairs_needed=needed)
