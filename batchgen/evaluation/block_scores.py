"""The scores of a block of answers by every metric. The answers of one prompt are adjacent."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeGuard

import numpy as np

from batchgen.arrow.nested_column import value_at
from batchgen.arrow.values import json_value
from batchgen.evaluation.aggregate import (
    ClusterIndex,
    ClusterTally,
    CorpusTally,
    Mask,
    RowTally,
    ScoredObservations,
    Tally,
)
from batchgen.metrics.base import (
    Answer,
    GroupMetric,
    Metric,
    RowMetric,
    SetMetric,
    Spec,
    SumMetric,
    score_answer,
)
from batchgen.metrics.statistics.intervals import Finalize, Floats, Integers
from batchgen.records import Score


def is_sum(metric: Metric) -> TypeGuard[SumMetric]:
    """Whether the value of a corpus is not the mean of its rows."""
    return hasattr(metric, "row_stats")


def is_group(metric: Metric) -> TypeGuard[GroupMetric]:
    """Whether it scores prompts instead of answers."""
    return hasattr(metric, "score_group")


def is_set(metric: Metric) -> TypeGuard[SetMetric]:
    """Whether it scores only whole sets."""
    return hasattr(metric, "compute")


def is_row(metric: Metric) -> TypeGuard[RowMetric]:
    """Whether it scores single answers."""
    return not is_group(metric) and not is_set(metric)


@dataclass(frozen=True, slots=True)
class BlockScores:
    """The scores of a block by one metric.

    Attributes:
        rows: int64 [n]: the row of each score; for a prompt, its first.
        stats: float64 [n, k]; k is 0 except for corpus metrics.
    """

    spec: Spec
    scores: Sequence[Score]
    rows: Integers
    stats: Floats

    def observations(self, clusters: Integers) -> ScoredObservations:
        """The input of tallies. `clusters` is the cluster of each row, int64 [rows of the block]."""
        values = [score.value for score in self.scores]
        return ScoredObservations(
            values=np.array([0.0 if v is None else v for v in values], np.float64),
            scored=np.array([v is not None for v in values], np.bool_),
            clusters=clusters[self.rows],
            stats=self.stats,
        )


def score_block(
    metrics: Sequence[Metric],
    answers: Sequence[Answer],
    selected: Mapping[str, Mask],
    fields: Mapping[str, str],
) -> list[BlockScores]:
    """Score the answers of whole prompts by every metric except those of whole sets.

    By the metric's name, `selected` is the rows that a metric with a condition scores, bool [answers], and `fields` the path of
    what it scores in place of the response.
    """

    def seen_by(metric: Metric) -> Sequence[Answer]:
        return list(answers_for(metric.spec.name, answers, fields))

    everyone = np.ones(len(answers), np.bool_)
    by_name = {
        m.spec.name: _score_rows(m, seen_by(m), selected.get(m.spec.name, everyone))
        for m in metrics
        if is_row(m)
    }
    for metric in metrics:
        if is_group(metric):
            name = metric.spec.name
            below = by_name[metric.of] if metric.of is not None else None
            by_name[name] = _score_groups(
                metric, seen_by(metric), selected.get(name, everyone), below
            )
    return [by_name[m.spec.name] for m in metrics if m.spec.name in by_name]


def answers_for(
    metric: str, answers: Iterable[Answer], fields: Mapping[str, str]
) -> Iterable[Answer]:
    """The answers as a metric sees them: with the value of its field as the response, empty where that is null."""
    if (path := fields.get(metric)) is None:
        return answers
    return (_with_field(answer, path) for answer in answers)


def _with_field(answer: Answer, path: str) -> Answer:
    if answer.response is None:
        return answer
    value = json_value(value_at(answer.fields, path))
    text = "" if value is None else json.dumps(value, ensure_ascii=False)
    return replace(answer, response=value if isinstance(value, str) else text)


def _score_rows(metric: RowMetric, answers: Sequence[Answer], selected: Mask) -> BlockScores:
    rows = np.flatnonzero(selected)
    scores = [score_answer(metric, answers[row]) for row in rows.tolist()]
    stats = np.zeros((len(rows), len(metric.stats) if is_sum(metric) else 0))
    if is_sum(metric):
        for position, row in enumerate(rows.tolist()):
            if scores[position].value is not None:
                counted = metric.row_stats(answers[row])
                stats[position] = 0.0 if counted is None else counted
    return BlockScores(metric.spec, scores, rows, stats)


def _score_groups(
    metric: GroupMetric, answers: Sequence[Answer], selected: Mask, below: BlockScores | None
) -> BlockScores:
    scored = dict(zip(below.rows.tolist(), below.scores, strict=True)) if below else {}
    scores, firsts = [], []
    for _, rows in groupby(range(len(answers)), key=lambda row: answers[row].id):
        chosen = [row for row in rows if selected[row] and (below is None or row in scored)]
        if chosen:
            below_scores = [scored[row] for row in chosen] if below else []
            scores.append(metric.score_group([answers[row] for row in chosen], below_scores))
            firsts.append(chosen[0])
    return BlockScores(metric.spec, scores, np.array(firsts, np.int64), np.zeros((len(scores), 0)))


def new_tally(metric: Metric, clustered: bool, cluster_index: type[ClusterIndex]) -> Tally:
    """The tally of a metric over a slice. `clustered` if several observations may share a cluster."""
    if is_sum(metric):
        finalize: Finalize = metric.finalize
        return CorpusTally(len(metric.stats), finalize, cluster_index())
    return ClusterTally(cluster_index()) if clustered else RowTally()
