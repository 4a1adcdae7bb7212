"""The queries for the column `choice_probabilities`: how likely is each label after the row's prompt?

sealed answers ──rows without probabilities──> labels after the prompt ──scoring pass──> the column, filled
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from batchgen.evaluation.answers import ColumnMap, LazyColumns, RowFields, Tables
from batchgen.evaluation.model_queries.after_prompt import AfterPromptQueries, EncodedText
from batchgen.evaluation.model_queries.query import LikelihoodQuery, Query
from batchgen.evaluation.model_queries.scoring_model import ScoringModel
from batchgen.output.choice_column import CHOICE_PROBABILITIES, CHOICES, choice_cell
from batchgen.records import Failure
from batchgen.structured.answer_grammars import AnswerGrammars
from batchgen.structured.disjoint_labels import deciding_tokens, longer_labels, without_longer

_RESULTS = "choices:likelihoods"
"""The column of the scoring pass, which is never written."""


class ChoiceQueries:
    """The queries about the labels of each row; a `QuerySource`."""

    columns = (_RESULTS,)

    def __init__(self, grammars: AnswerGrammars, origin: ColumnMap, model: ScoringModel) -> None:
        prefix = model.job.output.prefix
        self._grammars = grammars
        self._after_prompt = AfterPromptQueries(origin, model)
        self._reason = f"{prefix}finish_reason"
        self._column = prefix + CHOICE_PROBABILITIES

    def queries(self, table: pa.Table) -> list[list[list[Query]]]:
        """For each row, a query for each label; none for rows without an answer, and for those that have probabilities."""
        fields = LazyColumns(table)
        known = table.column(self._column).is_valid().to_pylist()
        answered = [one not in ("error", "skipped") for one in fields.column(self._reason)]
        labels = [
            self._labels(RowFields(fields, row)) if answered[row] and not known[row] else ()
            for row in range(table.num_rows)
        ]
        encoded = self._after_prompt.encode(table, labels)
        rows = zip(labels, encoded, strict=True)
        return [[self._of_row({one: texts[one] for one in of_row}) for of_row, texts in rows]]

    def _of_row(self, labels: Mapping[str, EncodedText | Failure]) -> list[Query]:
        queries = [self._after_prompt.query(one, None) for one in labels.values()]
        sent = [one for one in queries if isinstance(one, LikelihoodQuery)]
        if len(sent) < len(queries):
            return [next(one for one in queries if not isinstance(one, LikelihoodQuery))]
        deciding = deciding_tokens([one.token_ids for one in sent])
        longer = longer_labels(deciding)
        return [
            LikelihoodQuery(one.context, ids, json.dumps([label, continuing]))
            for one, ids, label, continuing in zip(sent, deciding, labels, longer, strict=True)
        ]

    def _labels(self, fields: Mapping[str, object]) -> tuple[str, ...]:
        grammar = self._grammars.row_grammar(fields)
        if grammar is None or isinstance(grammar, Failure) or grammar.kind != "choice":
            return ()
        return tuple(json.loads(grammar.text))

    def fill(self, tables: Tables) -> Tables:
        """The same tables with the column filled from the results of the pass, which are removed."""
        return lambda: self._filled(tables())

    def _filled(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            cells = table.column(self._column).to_pylist()
            results = table.column(_RESULTS).to_pylist()
            pairs = zip(cells, results, strict=True)
            filled = [_cell(found) if found else cell for cell, found in pairs]
            at = table.column_names.index(self._column)
            new = table.set_column(at, table.schema.field(at), pa.array(filled, CHOICES))
            yield new.drop_columns([_RESULTS])


def _cell(results: Sequence[Mapping[str, Any]]) -> list[dict[str, object]] | None:
    """The cell of a row; None if a query failed, such as for a prompt that is too long with the label."""
    if any(one["failure"] for one in results):
        return None
    notes = [json.loads(one["note"]) for one in results]
    logprobs = without_longer([one["logprob"] for one in results], [longer for _, longer in notes])
    return choice_cell([label for label, _ in notes], logprobs)
