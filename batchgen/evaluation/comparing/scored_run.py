"""A scored run, or a folder that `batchgen score` wrote: one of the two that are compared."""

import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.arrow.nested_column import column_at, column_paths, split_path
from batchgen.arrow.values import key_texts
from batchgen.errors import StateError, UsageError
from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.comparing.paired_rows import AnswerKeys, ScoreBlock, join_keys
from batchgen.evaluation.comparing.text_order import TextOrder, order_texts
from batchgen.evaluation.slices import Slicer, slice_column
from batchgen.job.evaluate import Bins
from batchgen.metrics.statistics.intervals import Floats
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.published_run import PublishedRun, check_no_pending_release, responses_in
from batchgen.output.score_tables import read_facts, read_metrics
from batchgen.output.unfinished_run import check_manifest_exists, why_unfinished
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists

KEY = ("id", "sample")
"""The columns that pair rows."""
CLUSTER = "cluster"
SLICE = "slice_"
"""Prefix of the columns with the row's slice: one column for each entry of `evaluate.slices`."""
_NO_PROMPT = pl.Series([0], dtype=pl.UInt64)
"""In place of the hash of a prompt that is not known."""


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run with scores.

    Attributes:
        path: as the user gave it, for messages.
        metrics: rows of metrics.parquet over all answers, by metric.
        input: path, size and sha256 of each input file; empty for a table that `score` scored.
    """

    path: Path
    scores: ParquetTable
    metrics: Mapping[str, MetricRow]
    responses: ParquetTable
    facts: Mapping[str, Any]
    input: Sequence[Mapping[str, Any]] = ()

    @property
    def has_settings(self) -> bool:
        """Whether the answers are those of a run, whose settings are stored with them."""
        return "settings" in self.facts

    @property
    def slices(self) -> Sequence[str | Bins]:
        """The section `evaluate.slices` of the job."""
        cuts = self.facts.get("evaluate", {}).get("slices", ())
        return [cut if isinstance(cut, str) else Bins.model_validate(cut) for cut in cuts]

    def blocks(
        self, names: Sequence[str], cuts: Sequence[str | Bins] = ()
    ) -> Iterator[pl.DataFrame]:
        """Those of `id`, `sample`, `prompt` and `cluster` that are present, of each answer: texts, but for `sample`.

        Each of `cuts` adds a column with the row's slice, if the column that it reads exists.
        """
        existing = self._existing
        wanted = {name: self._columns[name] for name in names}
        columns = {name: column for name, column in wanted.items() if column and column in existing}
        cuts = [cut for cut in cuts if slice_column(cut) in existing]
        slicer, start = Slicer(cuts), 0
        for table in self._tables({*columns.values(), *map(slice_column, cuts)}):
            texts = {name: key_texts(column_at(table, path)) for name, path in columns.items()}
            slices = {f"{SLICE}{n}": found for n, found in enumerate(slicer.names(table))}
            stop = start + table.num_rows
            rows = pl.DataFrame({"id": pl.int_range(start, stop, eager=True)}).select(
                pl.col("id").cast(pl.String), pl.lit("0").alias("sample")
            )
            start = stop
            yield rows.with_columns(
                pl.Series(name, column) for name, column in {**texts, **slices}.items()
            ).with_columns(
                pl.col("sample").cast(pl.Int32, strict=False).fill_null(0),
                pl.col("id").fill_null("null"),
                pl.col(f"^{SLICE}\\d+$").cast(pl.Categorical),
            )

    def ids(self) -> Iterator[pl.Series]:
        """The ids of the answers, a block at a time."""
        return (block["id"] for block in self.blocks(["id"]))

    def key_blocks(self, ids: TextOrder, cuts: Sequence[str | Bins] = ()) -> Iterator[AnswerKeys]:
        """The answers as in `blocks`, with numbers in place of texts: ids are ranks in `ids`."""
        existing = self._existing
        numbers: dict[str, Callable[[pl.Series], pl.Series]] = {"id": ids.encode}
        if self._columns["prompt"] in existing:
            numbers["prompt"] = lambda texts: texts.hash().zip_with(texts.is_not_null(), _NO_PROMPT)
        if self._columns[CLUSTER] in existing:
            order = order_texts(lambda: (block[CLUSTER] for block in self.blocks([CLUSTER])))
            # Rows without a cluster are one together.
            numbers[CLUSTER] = lambda texts: order.encode(texts).fill_null(len(order.ranks))
        for block in self.blocks([*numbers, "sample"], cuts):
            encoded = {name: encode(block[name]).to_numpy() for name, encode in numbers.items()}
            yield AnswerKeys(
                encoded["id"],
                block["sample"].to_numpy(),
                encoded.get("prompt"),
                encoded.get(CLUSTER),
                [block[name] for name in block.columns if name.startswith(SLICE)],
            )

    def rows(self, ids: TextOrder, cuts: Sequence[str | Bins] = ()) -> AnswerKeys:
        """All answers of `key_blocks`. StateError if two have the same id and sample."""
        rows = join_keys(self.key_blocks(ids, cuts), self.responses.num_rows)
        self.check_once(rows, ids)
        return rows

    def check_once(self, rows: AnswerKeys, ids: TextOrder) -> None:
        """Raise StateError if two rows have the same id and sample."""
        keys = rows.numbers()
        keys.sort()
        twice = keys[1:][keys[1:] == keys[:-1]]
        if len(twice):
            rank, sample = divmod(int(twice[0]), 1 << 32)
            raise StateError(
                f"{self.path}: id {self.find_ids([rank], ids)[rank]!r} and sample {sample} occur twice",
                hint="Give each row its own id and sample: rows are paired by them.",
            )

    def find_ids(self, ranks: Collection[int], ids: TextOrder) -> dict[int, str]:
        """The ids with these ranks that this run has."""
        found: dict[int, str] = {}
        wanted = pl.Series(list(ranks), dtype=pl.UInt32)
        for texts in self.ids() if ranks else ():
            block = pl.DataFrame({"rank": ids.encode(texts), "text": texts})
            found |= dict(block.filter(pl.col("rank").is_in(wanted.implode())).iter_rows())
            if len(found) == len(wanted):
                break
        return found

    def _tables(self, paths: Collection[str]) -> Iterator[pa.Table]:
        """The columns of these paths, a row group at a time; at least one table. Without paths, tables with rows."""
        schema = self.responses.schema.remove_metadata()
        empty = schema.empty_table()
        read = sorted({split_path(path, schema.names)[0] for path in paths}) or schema.names[:1]
        yield empty.select(read)
        yield from self.responses.row_groups(read)

    @property
    def _existing(self) -> Collection[str]:
        """The columns of the answers and the paths of their fields, by which a job may cut and cluster."""
        return set(column_paths(self.responses.schema))

    @property
    def _columns(self) -> dict[str, str | None]:
        prefix = self.prefix
        return {
            "id": f"{prefix}id",
            "sample": f"{prefix}sample",
            "prompt": f"{prefix}prompt_hash",
            CLUSTER: self.facts.get("evaluate", {}).get("cluster"),
        }

    @property
    def prefix(self) -> str:
        """Of the columns that batchgen added to the answers."""
        return str(self.facts.get("settings", {}).get("output", {}).get("prefix", ""))

    @property
    def response(self) -> str:
        """The column with the responses."""
        return str(self.facts.get("response", f"{self.prefix}response"))

    def has_scores(self, metric: str) -> bool:
        """Whether single rows have scores of a metric; otherwise only the whole set has a value."""
        return bool(self.scores.read(["metric"], pc.field("metric") == metric).num_rows)

    def metric_scores(self, metric: str, ids: TextOrder) -> Iterator[ScoreBlock]:
        """The scores of one metric, a block at a time, without null values and unknown ids."""
        chosen = (pc.field("metric") == metric) & pc.field("value").is_valid()
        for table in self.scores.row_groups([*KEY, "metric", "value", "stats"]):
            rows = table.filter(chosen)
            del table  # before the next one is read
            ranks = ids.encode(pl.Series(pl.from_arrow(rows.column("id"))))
            known = ranks.is_not_null()
            if not known.any():
                continue
            rows, ranks = rows.filter(known.to_arrow()), ranks.drop_nulls()
            samples = rows.column("sample")
            yield ScoreBlock(
                ranks.to_numpy(),
                None if samples.null_count else samples.to_numpy(),
                rows.column("value").to_numpy(),
                _row_statistics(rows.column("stats")),
            )


def _row_statistics(lists: pa.ChunkedArray) -> Floats | None:
    """Lists of one length as float64 [rows, k]; None if there are none, zeros where there is none."""
    if lists.null_count == len(lists):
        return None
    present = lists.is_valid().to_numpy()
    numbers = pc.list_flatten(lists).to_numpy()
    table = np.zeros((len(present), len(numbers) // int(present.sum())))
    table[present] = numbers.reshape(-1, table.shape[1])
    return table


def open_scored_run(path: Path, staged: Path | None = None) -> ScoredRun:
    """Open the scores in a folder, or the staged ones, which messages call `path` too. UsageError if there are none."""
    run_folder = RunFolder((staged or path).absolute())
    check_no_pending_release(run_folder)
    run = PublishedRun(run_folder) if exists(run_folder.manifest) else None
    if run is not None:
        run.check(hashes=False)
    elif staged is None:
        check_manifest_exists(run_folder)
    if not exists(run_folder.scores) or not exists(run_folder.metrics):
        if run is None:
            raise why_unfinished(run_folder).error(UsageError)
        elsewhere = "" if run_folder.is_private_readable else " -o FOLDER"
        raise UsageError(
            f"{path} has no scores",
            hint=f"Score it first: batchgen score {shlex.quote(str(path))} --metric length{elsewhere}.",
        )
    responses, files = responses_in(run_folder), ()
    if run is not None:
        responses, files = run.responses, tuple(run.manifest.content.get("input", ()))
    rows = {row.metric: row for row in read_metrics(run_folder.metrics) if row.slice == OVERALL}
    scores = ParquetTable([run_folder.scores], hint="Make it again with `batchgen score`.")
    return ScoredRun(path, scores, rows, responses, read_facts(run_folder.scores), files)


def read_response_texts(
    run: ScoredRun, keys: Iterable[tuple[str, int | None]]
) -> dict[tuple[str, int | None], str | None]:
    """Responses by id and sample. A sample of None stands for a prompt scored as a whole: its first response."""
    wanted = pl.DataFrame(
        list(keys), schema={"id": pl.String, "wanted_sample": pl.Int32}, orient="row"
    ).unique()
    wanted = wanted.with_columns(pl.col("wanted_sample").fill_null(0).alias("sample"))
    blocks, start = [wanted.clear().with_columns(pl.lit(0, pl.UInt32).alias("row"))], 0
    for block in run.blocks(KEY):
        blocks.append(wanted.join(block.with_row_index("row", start), on=list(KEY)))
        start += len(block)
    found = pl.concat(blocks)
    taken = run.responses.take(found["row"].to_list(), [run.response])
    texts = taken.column(0).to_pylist()
    keys = found.select("id", "wanted_sample").iter_rows()
    return {(key[0], key[1]): text for key, text in zip(keys, texts, strict=True)}


def order_ids(*runs: ScoredRun) -> TextOrder:
    """The order of all ids of some runs."""
    return order_texts(lambda: (ids for run in runs for ids in run.ids()))
