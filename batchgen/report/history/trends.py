"""Metrics over time: a point for each run, and where the line breaks."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batchgen.errors import UsageError
from batchgen.evaluation.aggregate import OVERALL
from batchgen.records import MetricRow
from batchgen.report.history.read_history import HistoryRun

_LISTED = 12


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """A metric of one run.

    Attributes:
        segment: number of the line that the point is on: points with another fingerprint are on another line.
        change: from the point before on the same line; None for its first one.
    """

    run: HistoryRun
    row: MetricRow
    segment: int
    change: float | None

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        kept = ("value", "ci_low", "ci_high", "ci_level", "n", "coverage", "fingerprint")
        row = asdict(self.row)
        values = {name: row[name] for name in kept}
        return {
            "run_id": self.run.run_id,
            **values,
            "segment": self.segment,
            "change": self.change,
        }


@dataclass(frozen=True, slots=True)
class Trend:
    """A metric over one slice, with a point for each run that has it."""

    metric: str
    slice: str
    points: Sequence[TrendPoint]

    @property
    def label(self) -> str:
        return self.metric if self.slice == OVERALL else f"{self.metric} ({self.slice})"

    @property
    def newest(self) -> MetricRow:
        return self.points[-1].row

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "metric": self.metric,
            "slice": self.slice,
            "unit": self.newest.unit,
            "higher_is_better": self.newest.higher_is_better,
            "primary": self.newest.primary,
            "points": [point.plain() for point in self.points],
        }


def trends_of(
    runs: Sequence[HistoryRun], metrics: Collection[str] = (), slices: Collection[str] = ()
) -> list[Trend]:
    """The metrics of some runs of a job, the oldest first; primary ones come first. Default: all, over all answers."""
    keys = dict.fromkeys(key for run in reversed(runs) for key in run.rows)
    wanted = slices or (OVERALL,)
    chosen = [key for key in keys if key[1] in wanted and (not metrics or key[0] in metrics)]
    found = [Trend(*key, _points(runs, key)) for key in chosen]
    return sorted(found, key=lambda trend: not trend.newest.primary)


def _points(runs: Sequence[HistoryRun], key: tuple[str, str]) -> list[TrendPoint]:
    points: list[TrendPoint] = []
    for run in runs:
        row = run.rows.get(key)
        if row is None:
            continue
        last = points[-1] if points else None
        same = last is not None and last.row.fingerprint == row.fingerprint
        segment = 0 if last is None else last.segment + (not same)
        change = None
        if last is not None and same and last.row.value is not None and row.value is not None:
            change = row.value - last.row.value
        points.append(TrendPoint(run, row, segment, change))
    return points


def check_names(
    runs: Sequence[HistoryRun], metrics: Collection[str], slices: Collection[str]
) -> None:
    """Raise UsageError if no run has one of these metrics or slices."""
    keys = [key for run in runs for key in run.rows]
    _check("metric", metrics, [metric for metric, _ in keys])
    _check("slice", slices, [name for _, name in keys])


def _check(kind: str, wanted: Collection[str], known: Sequence[str]) -> None:
    names = list(dict.fromkeys(known))
    for name in wanted:
        if name not in names:
            listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
            raise UsageError(f"no run has the {kind} {name!r}", hint=f"There are: {listed}.")
