"""Scores answers block by block, and keeps what the aggregates need.

    table ──answers──> every metric ──┬──> the table with its columns of scores
                                      ├──> the long detail
                                      └──> tallies by slice ──> aggregates

Metrics of whole sets read the answers again.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from batchgen.arrow.nested_column import column_at
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
    answers_for,
    is_group,
    is_row,
    is_set,
    new_tally,
    score_block,
)
from batchgen.evaluation.resolve_evaluation import Evaluation, JobMetric
from batchgen.evaluation.slices import Slicer
from batchgen.metrics.base import Answer, SetMetric
from batchgen.metrics.statistics.intervals import Integers
from batchgen.output.score_tables import SCORE_PREFIX, SCORES, add_score_columns, scores_table

BLOCK_ROWS = 2048
"""Answers that are Python objects at one time; more where a single prompt has more."""


class ScoredTable(NamedTuple):
    """A block of answers with columns of scores, and the rows of scores.parquet."""

    table: pa.Table
    detail: pa.Table


class Scorer:
    """Scores all answers of a run or of a file. Stateful: for one pass only."""

    def __init__(
        self, evaluation: Evaluation, origin: ColumnMap, schema: pa.Schema, prefix: str = ""
    ) -> None:
        """Compile the conditions of the metrics against the schema."""
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
        self._fields = {m.name: m.field for m in evaluation.measures if m.field is not None}
        self._slicer = Slicer(evaluation.section.slices)
        self._clusters: dict[str | None, int] = {}
        self._of_prompts = {m.name for m in evaluation.measures if is_group(m.metric)}
        self._tallies = {m.name: self._new_slices(m) for m in scored}
        self._slices: dict[str, None] = {}
        self._rows = 0

    def schema(self, schema: pa.Schema) -> pa.Schema:
        return add_score_columns(schema, self.columns)

    def score(self, table: pa.Table) -> ScoredTable:
        """Score the next table; it must contain whole prompts."""
        tables, detail = [self.schema(table.schema).empty_table()], [SCORES.empty_table()]
        for block in split_between_prompts(table, self.origin.id, BLOCK_ROWS):
            answers = read_answers(block, self.origin, self._rows)
            self._rows += len(answers)
            selected = {name: one.mask(block) for name, one in self._filters.items()}
            scores = score_block(self._metrics, answers, selected, self._fields)
            self._tally(scores, self._slicer.masks(block), self._cluster_numbers(block, answers))
            tables.append(self._with_scores(block, answers, scores))
            detail += [self._detail(answers, one) for one in scores]
        return ScoredTable(pa.concat_tables(tables), pa.concat_tables(detail))

    def _tally(
        self, scores: list[BlockScores], masks: Mapping[str, Mask], clusters: Integers
    ) -> None:
        self._slices |= dict.fromkeys(masks)
        for block in scores:
            slices = {name: mask[block.rows] for name, mask in masks.items()}
            self._tallies[block.spec.name].add(block.observations(clusters), slices)

    def aggregates(self, tables: Tables) -> list[Aggregate]:
        """The value of every metric over all rows and every slice, in the order of the job.

        Metrics of whole sets read `tables` again.
        """
        names = [OVERALL, *sorted(self._slices)]
        aggregates: list[Aggregate] = []
        for measure in self.evaluation.measures:
            if is_set(measure.metric):
                aggregates += [self._of_set(measure, measure.metric, n, tables) for n in names]
            else:
                aggregates += self._tallies[measure.name].aggregates(self.evaluation.confidence)
        return aggregates

    def _new_slices(self, measure: JobMetric) -> SliceTallies:
        named = self.evaluation.section.cluster is not None
        several = named or (self.origin.sample is not None and is_row(measure.metric))
        index: type[ClusterIndex] = GlobalClusters if named else BlockLocalClusters
        return SliceTallies(measure.metric.spec, partial(new_tally, measure.metric, several, index))

    def _cluster_numbers(self, table: pa.Table, answers: list[Answer]) -> Integers:
        """The cluster of each row: int64 [rows]. Without a column, numbers are unique within a block only."""
        if self.evaluation.section.cluster is None:
            numbers: dict[str | None, int] = {}
            keys = [answer.id for answer in answers]
        else:
            numbers = self._clusters
            keys = key_texts(column_at(table, self.evaluation.section.cluster)).to_pylist()
        return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)

    def _with_scores(
        self, table: pa.Table, answers: list[Answer], scores: list[BlockScores]
    ) -> pa.Table:
        kept = table.drop_columns([name for name in self.columns if name in table.column_names])
        values = (self._column(block, answers) for block in scores)
        columns = [*kept.columns, *(pa.array(one, pa.float64()) for one in values)]
        return pa.Table.from_arrays(columns, schema=self.schema(table.schema))

    def _column(self, block: BlockScores, answers: list[Answer]) -> list[float | None]:
        """The scores of a block; the score of a prompt is that of each of its answers."""
        values = [score.value for score in block.scores]
        rows: list[int] = block.rows.tolist()
        if block.spec.name in self._of_prompts:
            of_prompt = {answers[row].id: value for row, value in zip(rows, values, strict=True)}
            return [of_prompt.get(answer.id) for answer in answers]
        of_row = dict(zip(rows, values, strict=True))
        return [of_row.get(row) for row in range(len(answers))]

    def _detail(self, answers: list[Answer], block: BlockScores) -> pa.Table:
        rows = block.rows.tolist()
        of_prompts = block.spec.name in self._of_prompts
        stats = block.stats.tolist() if block.stats.shape[1] else [None] * len(rows)
        scored = zip(stats, block.scores, strict=True)
        return scores_table(
            block.scores,
            ids=[answers[row].id for row in rows],
            samples=[None if of_prompts else answers[row].sample for row in rows],
            stats=[one if score.value is not None else None for one, score in scored],
        )

    def _of_set(
        self, measure: JobMetric, metric: SetMetric, name: str, tables: Tables
    ) -> Aggregate:
        selected = scored = 0

        def answers() -> Iterator[Answer]:
            nonlocal selected, scored
            for answer in self._answers_of(measure, name, tables):
                selected += 1
                scored += answer.response is not None
                yield answer

        estimate = metric.compute(answers(), self.evaluation.confidence.level)
        coverage = scored / selected if selected else None
        return Aggregate(metric.spec, name, scored, coverage, estimate)

    def _answers_of(self, measure: JobMetric, name: str, tables: Tables) -> Iterator[Answer]:
        rows = 0
        slicer = Slicer(self.evaluation.section.slices)
        blocks = (split_between_prompts(t, self.origin.id, BLOCK_ROWS) for t in tables())
        for table in chain.from_iterable(blocks):
            mask: Mask = np.ones(table.num_rows, np.bool_)
            if measure.name in self._filters:
                mask = self._filters[measure.name].mask(table)
            if name != OVERALL:
                mask = mask & slicer.masks(table).get(name, np.zeros_like(mask))
            answers = read_answers(table, self.origin, rows)
            rows += len(answers)
            chosen = (answers[row] for row in np.flatnonzero(mask).tolist())
            yield from answers_for(measure.name, chosen, self._fields)
