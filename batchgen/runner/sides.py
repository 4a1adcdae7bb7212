"""The scores of one run, or of one folder that `batchgen score` wrote, for comparing them with another's.

Knows nothing of what is compared.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from batchgen.data.folder import RunFolder
from batchgen.data.publish import must_be_released
from batchgen.data.scores import read_facts, read_metrics
from batchgen.errors import StateError, UsageError
from batchgen.metrics.aggregate import EVERYTHING
from batchgen.records import MetricRow

KEY = ("id", "sample")
"""What pairs rows."""


@dataclass(frozen=True, slots=True)
class Side:
    """The scores of one run."""

    path: Path
    scores: Path
    metrics: Mapping[str, MetricRow]
    responses: list[Path]
    facts: Mapping[str, Any]

    def rows(self) -> pl.DataFrame:
        """`id`, `sample`, and where known `prompt` and `cluster`, of each answer.

        Raises:
            StateError: two rows have the same id and sample.
        """
        prefix = self.facts.get("settings", {}).get("output", {}).get("prefix", "")
        frame = pl.scan_parquet(self.responses)
        known = frame.collect_schema().names()
        cluster = self.facts.get("evaluate", {}).get("cluster")
        wanted = {
            "id": f"{prefix}id",
            "sample": f"{prefix}sample",
            "prompt": f"{prefix}prompt_hash",
        }
        if cluster is not None:
            wanted["cluster"] = cluster
        found = {name: column for name, column in wanted.items() if column in known}
        rows = frame.select(pl.col(c).cast(pl.String).alias(n) for n, c in found.items()).collect()
        if "id" not in found:
            numbers = pl.int_range(
                rows.height if found else frame.select(pl.len()).collect().item(), eager=True
            )
            rows = rows.with_columns(numbers.cast(pl.String).alias("id"))
        if "sample" not in found:
            rows = rows.with_columns(pl.lit("0").alias("sample"))
        rows = rows.with_columns(pl.col("sample").cast(pl.Int32))
        twice = rows.filter(pl.struct(KEY).is_duplicated())
        if twice.height:
            raise StateError(
                f"{self.path}: id {twice['id'][0]!r} and sample {twice['sample'][0]} are there twice",
                hint="Rows are compared by id and sample; give each its own.",
            )
        return rows

    @property
    def response(self) -> str:
        """The column with the responses."""
        prefix = self.facts.get("settings", {}).get("output", {}).get("prefix", "")
        return str(self.facts.get("response", f"{prefix}response"))

    def of(self, metric: str) -> pl.DataFrame:
        """`id`, `sample`, `value` and `stats` of one metric, where there is a value."""
        chosen = (pl.col("metric") == metric) & pl.col("value").is_not_null()
        return pl.scan_parquet(self.scores).filter(chosen).select(*KEY, "value", "stats").collect()


def open_side(path: Path) -> Side:
    """The scores in a folder.

    Raises:
        UsageError: there are none.
        StateError: they are damaged.
    """
    folder = RunFolder(path.absolute())
    return side_of(path, folder.path)


def side_of(path: Path, folder: Path) -> Side:
    """The scores that lie in `folder`, which may be one that nobody sees yet; messages call it `path`.

    Raises:
        UsageError: there are none.
        StateError: they are damaged, or being replaced.
    """
    place = RunFolder(folder)
    must_be_released(place)
    if not place.scores.exists() or not place.metrics.exists():
        raise UsageError(
            f"{path} has no scores",
            hint=f"Score it first: batchgen score {path} --metric exact, or the job's section evaluate.",
        )
    rows = {row.metric: row for row in read_metrics(place.metrics) if row.slice == EVERYTHING}
    responses = [place.responses]
    if not place.responses.exists():
        responses = sorted(place.response_parts.glob("*.parquet"))
    return Side(path, place.scores, rows, responses, read_facts(place.scores))


def texts_of(
    side: Side, asked: Iterable[tuple[str, int | None]]
) -> dict[tuple[str, int | None], str | None]:
    """The responses in some rows, by id and sample. Of a prompt that is scored as a whole, the first."""
    column = side.response
    rows = side.rows().with_row_index("place")
    wanted = pl.DataFrame(
        list(asked),
        schema={"id": pl.String, "asked": pl.Int32},
        orient="row",
    ).unique()
    places = wanted.with_columns(pl.col("asked").fill_null(0).alias("sample")).join(
        rows, on=list(KEY)
    )
    texts = (
        pl.scan_parquet(side.responses).select(pl.col(column).alias("text")).with_row_index("place")
    )
    found = texts.join(places.lazy(), on="place").select("id", "asked", "text").collect()
    return {(row[0], row[1]): row[2] for row in found.iter_rows()}
