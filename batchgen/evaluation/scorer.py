"""Scores answers block by block, and keeps what the aggregates need.

    table ──answers──> every metric ──┬──> the table with its columns of scores
                                      ├──> the long detail
                                      └──> tallies by slice ──> aggregates

Metrics of whole sets read the answers again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa

from batchgen.arrow.row_filter import RowFilter
from batchgen.arrow.values import key_texts
from batchgen.evaluation.aggregate import (
    OVERALL,
    Aggregate,
    BlockLocalClusters,
    ClusterIndex,
    GlobalClusters,
    Mask,
    SliceTallies,
)
from batchgen.evaluation.answers import ColumnMap, Tables, read_answers, split_between_prompts
from batchgen.evaluation.block_scores import (
    BlockScores,
    TallyFactory,
    is_group,
    is_row,
    is_set,
    score_block,
)
from batchgen.evaluation.resolve_evaluation import Evaluation, JobMetric
from batchgen.evaluation.slices import Slicer
from batchgen.metrics.base import Answer, SetMetric
from batchgen.metrics.statistics.intervals import Integers
from batchgen.output.score_tables import (
    SCORE_PREFIX,
    SCORES,
    MetricScores,
    add_score_columns,
    scores_table,
)

BLOCK_ROWS = 2048
"""Answers that are Python objects at one time; more where a single prompt has more."""


@dataclass(frozen=True, slots=True)
class ScoredTable:
    """A block of answers with columns of scores, and the rows of scores.parquet."""

    table: pa.Table
    detail: pa.Table


class Scorer:
    """Scores all answers of a run or of a file. Stateful: for one pass only."""

    def __init__(
        self, evaluation: Evaluation, origin: ColumnMap, schema: pa.Schema, prefix: str = ""
    ) -> None:
        """Compile the conditions of the metrics against the schema.

        Args:
            evaluation: with all judges ready.
            origin: of the tables.
            schema: of the tables.
            prefix: of the columns of scores.

        Raises:
            JobKeyError: a condition does not fit the columns.
        """
        self.evaluation = evaluation
        self.origin = origin
        self._metrics = [m.metric for m in evaluation.measures]
        scored = [m for m in evaluation.measures if not is_set(m.metric)]
        self.columns = tuple(prefix + SCORE_PREFIX + m.name for m in scored)
        self._filters = {
            m.name: RowFilter(m.where, schema, f"{m.key}.where")
            for m in evaluation.measures
            if m.where is not None
        }
        self._slicer = Slicer(evaluation.slices)
        self._clusters: dict[str | None, int] = {}
        self._of_prompts = {m.name for m in evaluation.measures if is_group(m.metric)}
        self._tallies = {m.name: self._new_slices(m) for m in scored}
        self._slices: dict[str, None] = {}
        self._rows = 0

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The schema of a table with its scores."""
        return add_score_columns(schema, self.columns)

    def score(self, table: pa.Table) -> ScoredTable:
        """Score the next table; it must contain whole prompts."""
        blocks = [
            self._score(block) for block in split_between_prompts(table, self.origin.id, BLOCK_ROWS)
        ]
        return ScoredTable(
            pa.concat_tables([self.schema(table.schema).empty_table(), *(b.table for b in blocks)]),
            pa.concat_tables([SCORES.empty_table(), *(b.detail for b in blocks)]),
        )

    def _score(self, table: pa.Table) -> ScoredTable:
        answers = read_answers(table, self.origin, self._rows)
        self._rows += len(answers)
        asked = {name: one.mask(table) for name, one in self._filters.items()}
        found = score_block(self._metrics, answers, asked)
        masks = self._slicer.masks(table)
        self._slices |= dict.fromkeys(masks)
        clusters = self._cluster_numbers(table, answers)
        for block in found:
            row_mean = {name: mask[block.rows] for name, mask in masks.items()}
            self._tallies[block.spec.name].add(block.scored(clusters), row_mean)
        detail = scores_table([self._detail(answers, block) for block in found])
        return ScoredTable(self._with_scores(table, answers, found), detail)

    def aggregates(self, tables: Tables) -> list[Aggregate]:
        """The value of every metric over all rows and every slice, in the order of the job.

        Metrics of whole sets read `tables` again.
        """
        names = [OVERALL, *sorted(self._slices)]
        found: list[Aggregate] = []
        for measure in self.evaluation.measures:
            if is_set(measure.metric):
                found += [self._of_set(measure, measure.metric, name, tables) for name in names]
            else:
                found += self._tallies[measure.name].aggregates(self.evaluation.confidence)
        return found

    def _new_slices(self, measure: JobMetric) -> SliceTallies:
        named = self.evaluation.cluster is not None
        several = named or (self.origin.sample is not None and is_row(measure.metric))
        numbering: type[ClusterIndex] = GlobalClusters if named else BlockLocalClusters
        return SliceTallies(measure.metric.spec, TallyFactory(measure.metric, several, numbering))

    def _cluster_numbers(self, table: pa.Table, answers: list[Answer]) -> Integers:
        """The cluster of each row: int64 [rows]. Without a column, numbers are unique within a block only."""
        known = self._clusters if self.evaluation.cluster is not None else {}
        keys = (
            [answer.id for answer in answers]
            if self.evaluation.cluster is None
            else key_texts(table.column(self.evaluation.cluster)).to_pylist()
        )
        return np.array([known.setdefault(key, len(known)) for key in keys], np.int64)

    def _with_scores(
        self, table: pa.Table, answers: list[Answer], found: list[BlockScores]
    ) -> pa.Table:
        values = [
            _by_prompt(block, answers)
            if block.spec.name in self._of_prompts
            else _by_row(block, answers)
            for block in found
        ]
        kept = table.drop_columns([name for name in self.columns if name in table.column_names])
        columns = [*kept.columns, *(pa.array(one, pa.float64()) for one in values)]
        return pa.Table.from_arrays(columns, schema=self.schema(table.schema))

    def _detail(self, answers: list[Answer], block: BlockScores) -> MetricScores:
        rows = block.rows.tolist()
        whole = block.spec.name in self._of_prompts
        stats = block.stats.tolist() if block.stats.shape[1] else [None] * len(rows)
        return MetricScores(
            ids=[answers[row].id for row in rows],
            samples=[None if whole else answers[row].sample for row in rows],
            scores=block.scores,
            stats=[
                one if score.value is not None else None
                for one, score in zip(stats, block.scores, strict=True)
            ],
        )

    def _of_set(
        self, measure: JobMetric, metric: SetMetric, name: str, tables: Tables
    ) -> Aggregate:
        asked = scored = 0

        def chosen() -> Iterator[Answer]:
            nonlocal asked, scored
            for answer in self._answers_of(measure, name, tables):
                asked += 1
                scored += answer.response is not None
                yield answer

        estimate = metric.compute(chosen(), self.evaluation.confidence.level)
        return Aggregate(metric.spec, name, scored, scored / asked if asked else None, estimate)

    def _answers_of(self, measure: JobMetric, name: str, tables: Tables) -> Iterator[Answer]:
        rows = 0
        slicer = Slicer(self.evaluation.slices)
        blocks = (split_between_prompts(t, self.origin.id, BLOCK_ROWS) for t in tables())
        for table in chain.from_iterable(blocks):
            mask: Mask = np.ones(table.num_rows, np.bool_)
            if measure.name in self._filters:
                mask = self._filters[measure.name].mask(table)
            if name != OVERALL:
                mask = mask & slicer.masks(table).get(name, np.zeros_like(mask))
            answers = read_answers(table, self.origin, rows)
            rows += len(answers)
            yield from (answers[row] for row in np.flatnonzero(mask).tolist())


def _by_row(block: BlockScores, answers: list[Answer]) -> list[float | None]:
    values: list[float | None] = [None] * len(answers)
    for row, score in zip(block.rows.tolist(), block.scores, strict=True):
        values[row] = score.value
    return values


def _by_prompt(block: BlockScores, answers: list[Answer]) -> list[float | None]:
    """The score of a prompt for each of its answers."""
    pairs = zip(block.rows.tolist(), block.scores, strict=True)
    known = {answers[row].id: score.value for row, score in pairs}
    return [known.get(answer.id) for answer in answers]
