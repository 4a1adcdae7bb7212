"""A scored run, or a folder that `batchgen score` wrote: one of the two that are compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.compute as pc

from batchgen.arrow.values import key_texts
from batchgen.errors import StateError, UsageError
from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.comparing.pairs import CLUSTER, KEY, SLICE
from batchgen.evaluation.slices import Slicer, slice_column
from batchgen.job.evaluate import Bins
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.published_run import PublishedRun, check_no_pending_release, responses_in
from batchgen.output.score_tables import read_facts, read_metrics
from batchgen.output.unfinished_run import why_unfinished
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run with scores.

    Attributes:
        path: as the user gave it, for messages.
        metrics: rows of metrics.parquet over all answers, by metric.
    """

    path: Path
    scores: ParquetTable
    metrics: Mapping[str, MetricRow]
    responses: ParquetTable
    facts: Mapping[str, Any]

    @property
    def slices(self) -> Sequence[str | Bins]:
        """The section `evaluate.slices` of the job."""
        cuts = self.facts.get("evaluate", {}).get("slices", ())
        return [cut if isinstance(cut, str) else Bins.model_validate(cut) for cut in cuts]

    def rows(self, cuts: Sequence[str | Bins] = ()) -> pl.DataFrame:
        """`id`, `sample`, and if present `prompt` and `cluster`, of each answer; strings, but for `sample`.

        Each of `cuts` adds a column with the row's slice, if the column that it reads exists. Raises StateError if two rows
        have the same id and sample.
        """
        prefix = self._prefix
        wanted = {
            "id": f"{prefix}id",
            "sample": f"{prefix}sample",
            "prompt": f"{prefix}prompt_hash",
            CLUSTER: self.facts.get("evaluate", {}).get("cluster"),
        }
        existing = self.responses.schema.names
        columns = {name: column for name, column in wanted.items() if column in existing}
        cuts = [cut for cut in cuts if slice_column(cut) in existing]
        table = self.responses.read(sorted({*columns.values(), *map(slice_column, cuts)}))
        texts = {name: key_texts(table.column(column)) for name, column in columns.items()}
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
                f"{self.path}: id {twice['id'][0]!r} and sample {twice['sample'][0]} occur twice",
                hint="Give each row its own id and sample: rows are paired by them.",
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
        """Whether single rows have scores of a metric; otherwise only the whole set has a value."""
        return bool(self.scores.read(["metric"], pc.field("metric") == metric).num_rows)

    def metric_scores(self, metric: str) -> pl.DataFrame:
        """`id`, `sample`, `value` and `stats` of one metric, without null values."""
        chosen = (pc.field("metric") == metric) & pc.field("value").is_valid()
        rows = self.scores.read([*KEY, "metric", "value", "stats"], chosen)
        return pl.DataFrame(pl.from_arrow(rows.drop_columns("metric")))


def open_scored_run(path: Path, staged: Path | None = None) -> ScoredRun:
    """Open the scores in a folder, or the staged ones, which messages call `path` too. UsageError if there are none."""
    run_folder = RunFolder((staged or path).absolute())
    check_no_pending_release(run_folder)
    if not run_folder.scores.exists() or not run_folder.metrics.exists():
        if not run_folder.manifest.exists():
            why = why_unfinished(run_folder)
            raise UsageError(why.problem, hint=why.hint)
        raise UsageError(
            f"{path} has no scores", hint=f"Score it first: batchgen score {path} --metric exact."
        )
    responses = responses_in(run_folder)
    if run_folder.manifest.exists():
        run = PublishedRun(run_folder)
        run.check(hashes=False)
        responses = run.responses
    rows = {row.metric: row for row in read_metrics(run_folder.metrics) if row.slice == OVERALL}
    scores = ParquetTable([run_folder.scores], hint="Make it again with `batchgen score`.")
    return ScoredRun(path, scores, rows, responses, read_facts(run_folder.scores))


def read_response_texts(
    run: ScoredRun, keys: Iterable[tuple[str, int | None]]
) -> dict[tuple[str, int | None], str | None]:
    """Responses by id and sample. A sample of None stands for a prompt scored as a whole: its first response."""
    wanted = pl.DataFrame(
        list(keys), schema={"id": pl.String, "wanted_sample": pl.Int32}, orient="row"
    ).unique()
    found = wanted.with_columns(pl.col("wanted_sample").fill_null(0).alias("sample")).join(
        run.rows().with_row_index("row"), on=list(KEY)
    )
    taken = run.responses.take(found["row"].to_list(), [run.response])
    texts = taken.column(0).to_pylist()
    keys = found.select("id", "wanted_sample").iter_rows()
    return {(key[0], key[1]): text for key, text in zip(keys, texts, strict=True)}
