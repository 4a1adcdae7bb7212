"""A job over time: its runs with what changed, its metrics, the answers that flipped, and drift."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from batchgen.errors import BatchgenError, StateError, UsageError
from batchgen.evaluation.comparing.compare import MetricComparison, compare_runs
from batchgen.evaluation.drift.answer_traits import AnswerTraits, open_answers, read_traits
from batchgen.evaluation.drift.measure_drift import DRIFT_KINDS, Drift, measure_drift
from batchgen.report.history.read_history import HistoryRun, JobRuns, LeftOut, read_history
from batchgen.report.history.run_changes import RunChange, changes_between
from batchgen.report.history.trends import Trend, check_names, trends_of


@dataclass(frozen=True, slots=True)
class Night:
    """A run next to the one before it.

    Attributes:
        changes: settings that differ from the run before.
        flips: each metric with a better direction over the prompts that both runs have; empty if they have none.
        common: answers to the same prompts in both; None if they were not compared.
        why: why they could not be compared, such as that a file is damaged.
    """

    run: HistoryRun
    changes: Sequence[RunChange] = ()
    flips: Sequence[MetricComparison] = ()
    common: int | None = None
    why: str = ""

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        run = self.run
        return {
            "run_id": run.run_id,
            "name": run.name,
            "output": str(run.path),
            "started_at": run.started_at,
            "changes": [
                {
                    "kind": one.kind,
                    "key": one.setting.key,
                    "old": one.setting.old,
                    "new": one.setting.new,
                }
                for one in self.changes
            ],
        }


@dataclass(frozen=True, slots=True)
class RunDrift:
    """Drift of the answers of a run from those of another; or why it was not measured."""

    base: str
    new: str
    tests: Sequence[Drift] = ()
    why: str = ""

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        tests = [test.plain() for test in self.tests]
        return {"base": self.base, "new": self.new, "tests": tests, "why": self.why}


@dataclass(frozen=True, slots=True)
class JobHistory:
    """A job over time. `drifts` has the newest run; with `every_night`, each run that has one before it."""

    job: str
    nights: Sequence[Night]
    trends: Sequence[Trend]
    drifts: Sequence[RunDrift]
    earlier: int = 0

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "job": self.job,
            "runs": [night.plain() for night in self.nights],
            "metrics": [trend.plain() for trend in self.trends],
            "drift": [drift.plain() for drift in self.drifts],
        }


@dataclass(frozen=True, slots=True)
class RunHistory:
    """All jobs of some folders over time, and the runs that are left out."""

    jobs: Sequence[JobHistory]
    left_out: Sequence[LeftOut]


@dataclass(frozen=True, slots=True)
class HistoryOptions:
    """What is shown.

    Attributes:
        last: so many of the newest runs; None for all.
        baseline: the run that the newest one's answers are compared with; None for the one before.
        every_night: compare the answers of all shown runs, each with the one before.
    """

    metrics: Collection[str] = ()
    slices: Collection[str] = ()
    last: int | None = None
    baseline: Path | None = None
    every_night: bool = False


def open_history(tops: Sequence[Path], options: HistoryOptions) -> RunHistory:
    """Read the runs of some folders, and compare each with the one before.

    Raises:
        UsageError: there is no scored run, no such metric or slice, or a baseline for several jobs.
        StateError: answers of the baseline are damaged.
    """
    found = read_history(tops)
    if options.baseline is not None and len(found.jobs) > 1:
        names = ", ".join(runs.job for runs in found.jobs)
        raise UsageError(
            f"a baseline is for the runs of one job; found runs of {names}",
            hint="Give the folders of one job.",
        )
    every = [run for runs in found.jobs for run in runs.runs]
    check_names(every, options.metrics, options.slices)
    jobs = [_history(runs, options) for runs in found.jobs]
    return RunHistory([job for job in jobs if job.trends], found.left_out)


def _history(runs: JobRuns, options: HistoryOptions) -> JobHistory:
    shown = runs.runs if options.last is None else runs.runs[-options.last :]
    first = len(runs.runs) - len(shown)
    before = [None, *runs.runs]
    nights = [
        _night(before[first + n], run, with_flips=options.every_night)
        for n, run in enumerate(shown)
    ]
    ids = {run.run_id for run in shown}
    trends = [
        replace(trend, points=[point for point in trend.points if point.run.run_id in ids])
        for trend in trends_of(runs.runs, options.metrics, options.slices)
    ]
    return JobHistory(
        runs.job,
        nights,
        [trend for trend in trends if trend.points],
        _drifts(runs.runs, len(shown), options),
        earlier=first,
    )


def _night(before: HistoryRun | None, run: HistoryRun, *, with_flips: bool) -> Night:
    if before is None:
        return Night(run)
    changes = changes_between(before, run)
    if not with_flips:
        return Night(run, changes)
    try:
        compared = compare_runs(before.scored, run.scored, max_examples=0)
    except UsageError:  # they have no metric in common
        return Night(run, changes)
    except StateError as error:  # the values of metrics are readable, the answers or scores are not
        return Night(run, changes, why=error.message)
    flips = [
        one
        for one in compared.metrics
        if not one.reason and one.n and one.higher_is_better is not None
    ]
    return Night(run, changes, flips if compared.common else (), compared.common)


@dataclass(slots=True)
class _Traits:
    """The traits of the two runs that were needed last."""

    read: dict[Path, AnswerTraits] = field(default_factory=dict)

    def of(self, path: Path) -> AnswerTraits:
        if path not in self.read:
            self.read = dict(list(self.read.items())[-1:])
            self.read[path] = read_traits(open_answers(path), DRIFT_KINDS)
        return self.read[path]


def _drifts(runs: Sequence[HistoryRun], shown: int, options: HistoryOptions) -> list[RunDrift]:
    """Drift of the newest run; with `every_night`, of each shown one that has a run before it."""
    traits, newest = _Traits(), runs[-1]
    if (base := options.baseline) is not None:
        tests = measure_drift(traits.of(base), traits.of(newest.path), DRIFT_KINDS)
        return [RunDrift(str(base), newest.name, tests)]
    pairs = list(pairwise(runs))
    return [
        _drift(traits, before, run)
        for before, run in (pairs[-shown:] if options.every_night else pairs[-1:])
    ]


def _drift(traits: _Traits, before: HistoryRun, run: HistoryRun) -> RunDrift:
    try:
        base, new = traits.of(before.path), traits.of(run.path)
    except BatchgenError as error:
        return RunDrift(before.name, run.name, why=error.message)
    return RunDrift(before.name, run.name, measure_drift(base, new, DRIFT_KINDS))
