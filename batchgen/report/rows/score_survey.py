"""One pass over scores.parquet: the distribution of each metric, and the answers with the worst values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from batchgen.evaluation.comparing.scored_run import ScoredRun
from batchgen.metrics.statistics.intervals import Floats
from batchgen.records import MetricRow

AnswerKey = tuple[str, int | None]
"""Id and sample; a sample of None stands for all answers to the prompt."""

_KEY = ("id", "sample")


@dataclass(frozen=True, slots=True)
class ScoreSurvey:
    """What a pass over the scores found.

    Attributes:
        values: of each metric, without nulls: float64, in the order of the file.
        statuses: rows of each metric by status.
        worst: of each ranked metric, the worst answers first, without those that have its best possible value.
    """

    values: Mapping[str, Floats]
    statuses: Mapping[str, Mapping[str, int]]
    worst: Mapping[str, Sequence[AnswerKey]]


def survey_scores(run: ScoredRun, ranked: Sequence[MetricRow], most: int) -> ScoreSurvey:
    """Read all scores once; keep the `most` worst answers of each ranked metric, in file order where values are equal."""
    signs = {row.metric: 1.0 if row.higher_is_better else -1.0 for row in ranked}
    best = {row.metric: row.most if row.higher_is_better else row.least for row in ranked}
    values: dict[str, list[Floats]] = {name: [] for name in run.metrics}
    worst: dict[str, pl.DataFrame] = {}
    statuses: dict[str, dict[str, int]] = {name: {} for name in run.metrics}
    for table in run.scores.row_groups([*_KEY, "metric", "value", "status"]):
        for name, rows in _by_metric(table).items():
            if name not in values:
                continue
            for status, count in rows["status"].value_counts().iter_rows():
                statuses[name][status] = statuses[name].get(status, 0) + count
            scored = rows.filter(pl.col("value").is_not_null())
            values[name].append(scored["value"].to_numpy())
            if name in signs:
                faulty = scored.filter(pl.col("value").ne_missing(best[name]))
                found = faulty.select(*_KEY, rank=pl.col("value") * signs[name])
                joined = pl.concat([worst[name], found]) if name in worst else found
                worst[name] = joined.sort("rank", maintain_order=True).head(most)
    return ScoreSurvey(
        {name: np.concatenate([np.empty(0), *chunks]) for name, chunks in values.items()},
        statuses,
        {name: list(frame.select(_KEY).iter_rows()) for name, frame in worst.items()},
    )


def _by_metric(table: pa.Table) -> dict[str, pl.DataFrame]:
    frame = pl.DataFrame(pl.from_arrow(table))
    parts = frame.partition_by("metric", as_dict=True, include_key=False)
    return {str(key[0]): part for key, part in parts.items()}
