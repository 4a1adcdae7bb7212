"""The scores of one run, or of one folder that `batchgen score` wrote, for comparing them with another's.

Knows nothing of what is compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.arrow.values import key_texts
from batchgen.errors import StateError, UsageError
from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.comparing.pairs import CLUSTER, KEY, SLICE
from batchgen.evaluation.slices import Slicer, slice_column
from batchgen.job.evaluate import Bins
from batchgen.output.published_run import (
    ParquetTable,
    PublishedRun,
    check_no_pending_release,
    responses_in,
)
from batchgen.output.score_tables import read_facts, read_metrics
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """The scores of one run."""

    path: Path
    scores: ParquetTable
    metrics: Mapping[str, MetricRow]
    responses: ParquetTable
    facts: Mapping[str, Any]

    @property
    def cuts(self) -> Sequence[str | Bins]:
        """How the job slices its rows."""
        asked = self.facts.get("evaluate", {}).get("slices", ())
        return [cut if isinstance(cut, str) else Bins.model_validate(cut) for cut in asked]

    def rows(self, cuts: Sequence[str | Bins] = ()) -> pl.DataFrame:
        """`id`, `sample`, and where known `prompt` and `cluster`, of each answer, as texts.

        Args:
            cuts: ways of slicing; each gives a column with the slice of the row, if its column is there.

        Raises:
            StateError: two rows have the same id and sample, or the answers are damaged.
        """
        prefix = self._prefix
        wanted = {
            "id": f"{prefix}id",
            "sample": f"{prefix}sample",
            "prompt": f"{prefix}prompt_hash",
            CLUSTER: self.facts.get("evaluate", {}).get("cluster"),
        }
        known = self.responses.schema.names
        found = {name: column for name, column in wanted.items() if column in known}
        cuts = [cut for cut in cuts if slice_column(cut) in known]
        table = self.responses.read(sorted({*found.values(), *map(slice_column, cuts)}))
        texts = {name: key_texts(table.column(column)) for name, column in found.items()}
        slices = {f"{SLICE}{n}": names for n, names in enumerate(Slicer(cuts).names(table))}
        rows = pl.DataFrame({"id": pl.int_range(table.num_rows, eager=True)}).select(
            pl.col("id").cast(pl.String), pl.lit("0").alias("sample")
        )
        rows = rows.with_columns(
            pl.Series(name, column) for name, column in {**texts, **slices}.items()
        ).with_columns(
            pl.col("sample").cast(pl.Int32, strict=False).fill_null(0),
            pl.col("id").fill_null("null"),
        )
        twice = rows.filter(pl.struct(KEY).is_duplicated())
        if twice.height:
            raise StateError(
                f"{self.path}: id {twice['id'][0]!r} and sample {twice['sample'][0]} are there twice",
                hint="Rows are compared by id and sample; give each its own.",
            )
        return rows

    @property
    def _prefix(self) -> str:
        return str(self.facts.get("settings", {}).get("output", {}).get("prefix", ""))

    @property
    def response(self) -> str:
        """The column with the responses."""
        return str(self.facts.get("response", f"{self._prefix}response"))

    def has_scores(self, metric: str) -> bool:
        """Whether rows have scores of a metric, or only the whole set has a value."""
        return any(
            pc.any(pc.equal(t["metric"], metric)).as_py()
            for t in self.scores.row_groups(["metric"])
        )

    def of(self, metric: str) -> pl.DataFrame:
        """`id`, `sample`, `value` and `stats` of one metric, where there is a value."""
        chosen = (pc.field("metric") == metric) & pc.field("value").is_valid()
        tables = self.scores.row_groups([*KEY, "metric", "value", "stats"])
        rows = pa.concat_tables([table.filter(chosen) for table in tables])
        return pl.DataFrame(pl.from_arrow(rows.drop_columns("metric")))


def open_scored_run(path: Path) -> ScoredRun:
    """The scores in a folder.

    Raises:
        UsageError: there are none.
        StateError: they are damaged.
    """
    folder = RunFolder(path.absolute())
    return scored_run_in(path, folder.path)


def scored_run_in(path: Path, folder: Path) -> ScoredRun:
    """The scores that lie in `folder`, which may be one that nobody sees yet; messages call it `path`.

    Raises:
        UsageError: there are none.
        StateError: they are damaged, or being replaced.
    """
    place = RunFolder(folder)
    check_no_pending_release(place)
    if not place.scores.exists() or not place.metrics.exists():
        raise UsageError(
            f"{path} has no scores",
            hint=f"Score it first: batchgen score {path} --metric exact, or the job's section evaluate.",
        )
    responses = responses_in(place)
    if place.manifest.exists():
        run = PublishedRun(place)
        run.check(hashes=False)
        responses = run.responses
    rows = {row.metric: row for row in read_metrics(place.metrics) if row.slice == OVERALL}
    scores = ParquetTable([place.scores], hint="Make it again with `batchgen score`.")
    return ScoredRun(path, scores, rows, responses, read_facts(place.scores))


def read_response_texts(
    side: ScoredRun, asked: Iterable[tuple[str, int | None]]
) -> dict[tuple[str, int | None], str | None]:
    """The responses in some rows, by id and sample. Of a prompt that is scored as a whole, the first."""
    rows = side.rows().with_row_index("row")
    wanted = pl.DataFrame(
        list(asked),
        schema={"id": pl.String, "asked": pl.Int32},
        orient="row",
    ).unique()
    found = wanted.with_columns(pl.col("asked").fill_null(0).alias("sample")).join(
        rows, on=list(KEY)
    )
    taken = side.responses.take(found["row"].to_list(), [side.response])
    texts = taken.column(0).to_pylist()
    keys = found.select("id", "asked").iter_rows()
    return {(key[0], key[1]): text for key, text in zip(keys, texts, strict=True)}
