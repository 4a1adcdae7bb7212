"""The confusion matrices of classifications, counted from scores.parquet: which label was the reference, which the answer.

The same in SQL, for the metric `choice`:

    SELECT reference, answer, count(*) FROM 'scores.parquet' WHERE metric = 'choice_macro_f1' AND value IS NOT NULL
    GROUP BY ALL
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from batchgen.evaluation.resolve_evaluation import read_recorded_metrics
from batchgen.metrics.choice import CHOICE, ChoiceMacroF1
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.score_tables import read_facts
from batchgen.storage.entries import exists

_CELL = ("reference", "answer")


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """How many answers of each reference label gave which label.

    Attributes:
        metric: the macro-F1 that these counts give.
        labels: all labels of the metric, in its order.
        counts: answers by reference label and given label, without zeros; the given label is None where there is no
            answer.
    """

    metric: str
    labels: Sequence[str]
    counts: Mapping[tuple[str, str | None], int]

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON: one object for each count above 0."""
        cells = [
            {"reference": reference, "answer": answer, "n": self.counts[reference, answer]}
            for reference in self.labels
            for answer in (*self.labels, None)
            if (reference, answer) in self.counts
        ]
        return {"metric": self.metric, "labels": list(self.labels), "cells": cells}


def read_confusion_matrices(scores: Path) -> list[ConfusionMatrix]:
    """The confusion matrices of a file scores.parquet, over all rows; none of a file by an earlier batchgen.

    Raises:
        StateError: the file is damaged.
    """
    if not exists(scores):
        return []
    metrics = read_recorded_metrics(read_facts(scores), of=CHOICE.word)
    labels = {name: m.labels for name, m in metrics.items() if isinstance(m, ChoiceMacroF1)}
    table = ParquetTable([scores], hint="Make it again with `batchgen score`.")
    if not labels or _CELL[0] not in table.schema.names:
        return []
    counted: dict[str, Counter[tuple[str, str | None]]] = {name: Counter() for name in labels}
    for group in table.row_groups(["metric", "value", *_CELL]):
        scored = group.filter(pc.field("value").is_valid())
        for row in scored.group_by(["metric", *_CELL]).aggregate([([], "count_all")]).to_pylist():
            if row["metric"] in counted:
                counted[row["metric"]][row["reference"], row["answer"]] += row["count_all"]
    return [ConfusionMatrix(name, labels[name], counts) for name, counts in counted.items()]
