"""The columns of scores.parquet, of metrics.parquet, and of the scores in responses.parquet. Missing values are null, never NaN."""

import errno
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.errors import StateError
from batchgen.records import MetricRow, Score
from batchgen.state.file_metadata import file_metadata_of
from batchgen.storage.durable import check_path_is_text
from batchgen.storage.entries import is_file

SCORE_PREFIX = "score_"
"""Prefix of a metric's column in responses.parquet, after `output.prefix`."""

SCORES = pa.schema(
    [
        ("id", pa.string()),
        ("sample", pa.int32()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("status", pa.string()),
        ("answer", pa.string()),
        ("rule", pa.string()),
        ("reference", pa.string()),
        ("stats", pa.list_(pa.float64())),
    ]
)
"""One row per answer and metric; `sample` is null if a prompt is scored by all its answers. `stats` are the row
statistics of a corpus metric; `reference` is the label of the reference, for metrics with labels."""

_RANGE = ("least", "most")

METRICS = pa.schema(
    [
        ("metric", pa.string()),
        ("slice", pa.string()),
        ("value", pa.float64()),
        ("n", pa.int64()),
        ("coverage", pa.float64()),
        ("stderr", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("ci_level", pa.float64()),
        ("method", pa.string()),
        ("unit", pa.string()),
        ("higher_is_better", pa.bool_()),
        ("primary", pa.bool_()),
        ("fingerprint", pa.string()),
        ("seed", pa.int64()),
        ("least", pa.float64()),
        ("most", pa.float64()),
    ]
)
"""The columns of metrics.parquet: those of `MetricRow`."""


def metrics_table(rows: Sequence[MetricRow]) -> pa.Table:
    """The rows of metrics.parquet."""
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=METRICS)


def read_metrics(path: Path) -> list[MetricRow]:
    """Read metrics.parquet. Files without the columns of the range have one for fractions only."""
    try:
        _check_file(path)
        table = pq.read_table(path, page_checksum_verification=True, partitioning=None)
        names = [n for n in METRICS.names if n not in _RANGE or n in table.column_names]
        rows = [MetricRow(**row) for row in table.select(names).to_pylist()]
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise StateError(
            f"{path} is damaged", hint="Make it again with `batchgen score`."
        ) from error
    old = _RANGE[0] not in table.column_names
    return [
        replace(row, least=0.0, most=1.0) if old and row.unit == "fraction" else row for row in rows
    ]


def scores_table(
    scores: Sequence[Score],
    ids: Sequence[str],
    samples: Sequence[int | None],
    stats: Sequence[Sequence[float] | None],
) -> pa.Table:
    """Rows of scores.parquet for one metric: an entry of each sequence is one row."""
    names = ("metric", "value", "status", "answer", "rule", "reference")
    columns: dict[str, Sequence[Any]]
    columns = {name: [getattr(score, name) for score in scores] for name in names}
    columns |= {"id": ids, "sample": samples, "stats": stats}
    return pa.table({field.name: columns[field.name] for field in SCORES}, schema=SCORES)


def read_facts(path: Path) -> dict[str, Any]:
    """The metadata of a file about its origin; empty if batchgen did not write the file."""
    try:
        _check_file(path)
        return file_metadata_of(pq.read_schema(path))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StateError(
            f"{path} is damaged", hint="Make it again with `batchgen score`."
        ) from error


def _check_file(path: Path) -> None:
    """Raise OSError if there is no file (to open a pipe would wait for ever), ResourceError if Arrow cannot open it."""
    check_path_is_text(path)
    if not is_file(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def add_score_columns(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """The schema with columns of scores: existing ones of these names are replaced, and come last."""
    added = [pa.field(name, pa.float64()) for name in names]
    kept = [field for field in schema if field.name not in set(names)]
    return pa.schema([*kept, *added], metadata=schema.metadata)
