"""The scores of one run, or of one folder that `batchgen score` wrote, for comparing them with another's.

Knows nothing of what is compared.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.arrow.values import key_texts
from batchgen.errors import StateError, UsageError
from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.comparing.pairs import CLUSTER, KEY, SLICE
from batchgen.evaluation.slices import Slicer, slice_column
from batchgen.job.evaluate import Bins
from batchgen.output.publish import check_no_pending_release
from batchgen.output.score_tables import read_facts, read_metrics
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """The scores of one run."""

    path: Path
    scores: Path
    metrics: Mapping[str, MetricRow]
    responses: list[Path]
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
        known = self._schema().names
        found = {name: column for name, column in wanted.items() if column in known}
        cuts = [cut for cut in cuts if slice_column(cut) in known]
        table = self._read(sorted({*found.values(), *map(slice_column, cuts)}))
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

    def _schema(self) -> pa.Schema:
        with _readable(self.responses[0]):
            return pq.read_schema(self.responses[0])

    def _read(self, columns: Sequence[str]) -> pa.Table:
        tables = []
        for path in self.responses:
            with _readable(path):
                tables.append(pq.read_table(path, columns=columns, partitioning=None))
        return pa.concat_tables(tables)

    @property
    def _prefix(self) -> str:
        return str(self.facts.get("settings", {}).get("output", {}).get("prefix", ""))

    @property
    def response(self) -> str:
        """The column with the responses."""
        return str(self.facts.get("response", f"{self._prefix}response"))

    def has_scores(self, metric: str) -> bool:
        """Whether rows have scores of a metric, or only the whole set has a value."""
        chosen = pl.scan_parquet(self.scores).filter(pl.col("metric") == metric)
        return bool(chosen.select(pl.len()).collect().item())

    def of(self, metric: str) -> pl.DataFrame:
        """`id`, `sample`, `value` and `stats` of one metric, where there is a value."""
        chosen = (pl.col("metric") == metric) & pl.col("value").is_not_null()
        return pl.scan_parquet(self.scores).filter(chosen).select(*KEY, "value", "stats").collect()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Errors of reading answers say which file is damaged."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StateError(
            f"{path} is damaged", hint="`batchgen verify` looks at every page of a run."
        ) from error


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
    rows = {row.metric: row for row in read_metrics(place.metrics) if row.slice == OVERALL}
    responses = [place.responses]
    if not place.responses.exists():
        responses = sorted(place.response_parts.glob("*.parquet"))
    return ScoredRun(path, place.scores, rows, responses, read_facts(place.scores))


def read_response_texts(
    side: ScoredRun, asked: Iterable[tuple[str, int | None]]
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
