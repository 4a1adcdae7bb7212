"""Whether a judge agrees with people, by the scores of a run: a gate may require it before the judge's scores count."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.compute as pc

from batchgen.errors import StateError
from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.agreement.vote_statistics import range_of
from batchgen.evaluation.drift.drift_gates import PREVIOUS
from batchgen.job.evaluate import Gate
from batchgen.metrics.statistics.agreement import RatedUnits, krippendorff_alpha
from batchgen.metrics.statistics.intervals import Confidence
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.score_tables import read_metrics
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """Krippendorff's interval alpha of two metrics over the answers that both scored; None, with a reason, if there is none."""

    alpha: float | None
    answers: int
    reason: str = ""

    def why_below(self, metric: str, least: float) -> str:
        """Why a metric does not count where the agreement must be `least`; empty if it does."""
        if self.alpha is None:
            return f"agreement of {metric} with people is not known: {self.reason}"
        if self.alpha >= least:
            return ""
        found = f"its agreement with people is {self.alpha:.2f} over {self.answers:,} answers"
        return f"{metric} does not count: {found}"


def why_no_agreement(
    gate: Gate,
    metric: str,
    rows: Mapping[tuple[str, str], MetricRow],
    *,
    folder: RunFolder,
    scored: Path,
) -> str:
    """Why the scores of a gate's metric do not count: it does not agree with people, or that is not known. Empty if they do.

    `rows` are those of metrics.parquet by metric and slice, `scored` is the folder with the scores of the run.
    """
    if gate.min_agreement is None:
        return ""
    path = scored
    try:
        if gate.agreement_run is not None:
            path = folder.path if gate.agreement_run == PREVIOUS else Path(gate.agreement_run)
            if why := _other_metric(metric, rows, path):
                return why
        found = metric_agreement(path, metric, gate.agreement_with)
    except StateError as error:
        return error.message
    return found.why_below(metric, gate.min_agreement)


def _other_metric(metric: str, rows: Mapping[tuple[str, str], MetricRow], path: Path) -> str:
    """Why the scores of a metric in another folder are not those of the same metric; empty if they are."""
    own, other = rows.get((metric, OVERALL)), RunFolder(path).metrics
    if not exists(other):
        return f"agreement of {metric} with people is not known: {path} has no scores"
    there = [row for row in read_metrics(other) if (row.metric, row.slice) == (metric, OVERALL)]
    if own is None or not there:
        return f"agreement of {metric} with people is not known: {path} has no scores of {metric}"
    if own.fingerprint != there[0].fingerprint:
        return f"{metric} is not the metric whose agreement {path} shows: its settings differ"
    return ""


def metric_agreement(folder: Path, metric: str, human: str) -> JudgeAgreement:
    """The agreement of a metric with the metric `human` in a folder of scores, both mapped to the range 0 to 1.

    Raises:
        StateError: a file of scores is damaged.
    """
    files = RunFolder(folder)
    if not (exists(files.metrics) and exists(files.scores)):
        return JudgeAgreement(None, 0, f"{folder} has no scores")
    rows = {row.metric: row for row in read_metrics(files.metrics) if row.slice == OVERALL}
    ranges = {name: range_of(rows[name]) if name in rows else None for name in (metric, human)}
    for name, bounds in ranges.items():
        if name not in rows:
            return JudgeAgreement(None, 0, f"{folder} has no scores of {name}")
        if bounds is None or not bounds.width:
            return JudgeAgreement(None, 0, f"{name} has no range")
    table = ParquetTable([files.scores]).read(
        ["id", "sample", "metric", "value"], pc.field("metric").isin([metric, human])
    )
    scores = pl.DataFrame(pl.from_arrow(table)).drop_nulls("value")
    both = scores.filter(pl.col("metric") == metric).join(
        scores.filter(pl.col("metric") == human), on=["id", "sample"], nulls_equal=True
    )
    if both.height < 2:
        return JudgeAgreement(None, both.height, f"{both.height:,} answers have scores of both")
    sides = [
        _share(both[column].to_numpy(), rows[name])
        for column, name in (("value", metric), ("value_right", human))
    ]
    count = np.arange(both.height)
    rated = RatedUnits(np.tile(count, 2), np.concatenate(sides), np.tile(count, 2))
    alpha = krippendorff_alpha(rated, "interval", Confidence(replicates=0))
    return JudgeAgreement(alpha.value, both.height, alpha.method.removeprefix("none: "))


def _share(
    values: "np.ndarray[tuple[int], np.dtype[np.float64]]", row: MetricRow
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Values as shares of the range, 1 for the best one."""
    bounds = range_of(row)
    if bounds is None:
        raise ValueError(f"{row.metric} has no range")
    share = (values - bounds.least) / bounds.width
    return np.asarray(1 - share if row.higher_is_better is False else share)
