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
from batchgen.evaluation.gating.gate_facts import Fact, fact
from batchgen.evaluation.gating.previous_run import PREVIOUS
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
    """Krippendorff's interval alpha of two metrics over the answers that both scored."""

    alpha: float
    answers: int


def why_no_agreement(
    gate: Gate,
    metric: str,
    rows: Mapping[tuple[str, str], MetricRow],
    *,
    scored: Path,
    previous: Path,
) -> Fact | None:
    """Why the scores of a gate's metric do not count: it does not agree with people, or that is not known. None if they do.

    `rows` are those of metrics.parquet by metric and slice, `scored` is the folder with the scores of the run,
    `previous` that of the run before.
    """
    if gate.min_agreement is None:
        return None
    named = gate.agreement_run
    path = scored if named is None else previous if named == PREVIOUS else Path(named)
    try:
        found = (named and _other_metric(metric, rows, path)) or metric_agreement(
            path, metric, gate.agreement_with
        )
    except StateError as error:
        return fact("text", text=error.message)
    if isinstance(found, Fact):
        return found
    low = fact("agreement_low", metric=metric, alpha=found.alpha, answers=found.answers)
    return None if found.alpha >= gate.min_agreement else low


def _other_metric(
    metric: str, rows: Mapping[tuple[str, str], MetricRow], path: Path
) -> Fact | None:
    """Why the scores of a metric in another folder are not those of the same metric; None if they are."""
    own, other = rows.get((metric, OVERALL)), RunFolder(path).metrics
    if not exists(other):
        return fact("agreement_no_scores", metric=metric, path=str(path))
    there = [row for row in read_metrics(other) if (row.metric, row.slice) == (metric, OVERALL)]
    if own is None or not there:
        return fact("agreement_no_metric", metric=metric, path=str(path), missing=metric)
    if own.fingerprint != there[0].fingerprint:
        return fact("agreement_other", metric=metric, path=str(path))
    return None


def metric_agreement(folder: Path, metric: str, human: str) -> JudgeAgreement | Fact:
    """The agreement of a metric with the metric `human` in a folder of scores, both mapped to the range 0 to 1, or why it is not known.

    Raises:
        StateError: a file of scores is damaged.
    """
    files = RunFolder(folder)
    if not (exists(files.metrics) and exists(files.scores)):
        return fact("agreement_no_scores", metric=metric, path=str(folder))
    rows = {row.metric: row for row in read_metrics(files.metrics) if row.slice == OVERALL}
    ranges = {name: range_of(rows[name]) if name in rows else None for name in (metric, human)}
    for name, bounds in ranges.items():
        if name not in rows or bounds is None or not bounds.width:
            missing = {"metric": metric, "missing": name}
            if name in rows:
                return fact("agreement_no_range", **missing)
            return fact("agreement_no_metric", **missing, path=str(folder))
    table = ParquetTable([files.scores]).read(
        ["id", "sample", "metric", "value"], pc.field("metric").isin([metric, human])
    )
    scores = pl.DataFrame(pl.from_arrow(table)).drop_nulls("value")
    both = scores.filter(pl.col("metric") == metric).join(
        scores.filter(pl.col("metric") == human), on=["id", "sample"], nulls_equal=True
    )
    if both.height < 2:
        return fact("agreement_few", metric=metric, answers=both.height)
    sides = [
        _share(both[column].to_numpy(), rows[name])
        for column, name in (("value", metric), ("value_right", human))
    ]
    count = np.arange(both.height)
    rated = RatedUnits(np.tile(count, 2), np.concatenate(sides), np.tile(count, 2))
    alpha = krippendorff_alpha(rated, "interval", Confidence(replicates=0))
    why = alpha.method.removeprefix("none: ")
    unknown = fact("agreement_unknown", metric=metric, why=why)
    return unknown if alpha.value is None else JudgeAgreement(alpha.value, both.height)


def _share(
    values: "np.ndarray[tuple[int], np.dtype[np.float64]]", row: MetricRow
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Values as shares of the range, 1 for the best one."""
    bounds = range_of(row)
    if bounds is None:
        raise ValueError(f"{row.metric} has no range")
    share = (values - bounds.least) / bounds.width
    return np.asarray(1 - share if row.higher_is_better is False else share)
