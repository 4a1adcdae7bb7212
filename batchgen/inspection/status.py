"""Inspect a run folder: progress, failures, single answers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl
import pyarrow as pa

from batchgen.errors import StateError
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.published_run import (
    PublishedRun,
    read_manifest,
    responses_in,
    written_prefix,
)
from batchgen.output.unfinished_run import check_manifest_exists, how_to_complete
from batchgen.records import Response
from batchgen.state.identity import Identity, read_identity
from batchgen.state.lock import is_running
from batchgen.state.open_folder import open_folder
from batchgen.state.parts import (
    Counts,
    answer_prefix,
    check_size,
    count_part,
    count_responses,
    part_files,
    read_part,
)
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.state.shards.members import MemberRecord, members
from batchgen.state.shards.shard_journal import shard_journals
from batchgen.state.sqlite_journal import saved_answers
from batchgen.storage.entries import exists


@dataclass(frozen=True, slots=True)
class FailedRows:
    """Rows that failed or were skipped for one reason; `examples` are ids."""

    code: str
    finish_reason: str
    count: int
    examples: Sequence[str]


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Progress of a run.

    Attributes:
        state: "running": the process that holds the lock is alive on this machine; "withheld": all rows are
            answered, but a gate failed and `output.publish` is `gated`.
        expected_rows: output rows: input rows times `samples`, the answers of each.
        parts: of a run that is not published; those that are not sealed are `missing_parts`.
        shards: the processes that have made parts of it with `--shard`.
    """

    folder: RunFolder
    state: Literal["complete", "running", "incomplete", "withheld"]
    job: str
    run_id: str
    started_at: str
    expected_rows: int
    counts: Counts
    failed: Sequence[FailedRows]
    withheld: Sequence[str] = ()
    samples: int = 1
    parts: int = 0
    missing_parts: Sequence[int] = ()
    shards: Sequence[MemberRecord] = ()

    @property
    def how_to_complete(self) -> str:
        """What completes the run if it is not complete; a sentence."""
        if self.shards and self.state == "incomplete" and not self.missing_parts:
            return "Repeat the same `batchgen run` with --merge to publish it."
        return how_to_complete(self.folder)


def status(path: Path) -> RunStatus:
    """Read the progress of a run."""
    folder = open_folder(path)
    withheld = exists(folder.withheld)
    if folder.complete and not withheld and not _is_replaced(folder):
        published = PublishedRun(folder)
        if not exists(folder.release):  # an interrupted replacement has a status, too
            published.check(hashes=False)
        counts, content = published.manifest.counts, published.manifest.content
        return RunStatus(
            folder=folder,
            state="complete",
            job=content["job"],
            run_id=published.manifest.run_id,
            started_at=content["started_at"],
            expected_rows=counts.rows,
            counts=counts,
            failed=_failures(_published_failures(published)),
            samples=content.get("samples", 1),
        )
    check_manifest_exists(folder)
    identity = read_identity(folder)
    if identity is None:
        raise StateError(f"{folder.run} is missing", hint="Start over with `batchgen run --fresh`.")
    saved = read_saved(folder, identity)
    tables = (_failure_columns(read_part(part)) for part in saved.parts)
    return RunStatus(
        folder=folder,
        state="withheld" if withheld else "running" if is_running(folder.lock) else "incomplete",
        job=folder.path.name,
        run_id=identity.run_id,
        started_at=identity.started_at,
        expected_rows=identity.rows * identity.settings["decoding"]["num_return_sequences"],
        counts=saved.counts,
        failed=_failures(tables, saved.waiting),
        withheld=read_json(folder.withheld)["why"] if withheld else (),
        samples=identity.settings["decoding"]["num_return_sequences"],
        parts=identity.parts,
        missing_parts=sorted(set(range(identity.parts)) - {int(p.stem) for p in saved.parts}),
        shards=members(folder),
    )


def _is_replaced(folder: RunFolder) -> bool:
    """Whether a new run, begun with `--fresh`, will replace the published one."""
    identity = read_identity(folder)
    return identity is not None and identity.run_id != read_manifest(folder).run_id


class SavedRows(NamedTuple):
    """What is saved and not published: sealed parts, and the journal's answers that are in none of them."""

    parts: Sequence[Path]
    waiting: Sequence[Response]
    counts: Counts


def read_saved(folder: RunFolder, identity: Identity) -> SavedRows:
    """Find and count the rows that are saved and not published."""
    parts = part_files(folder)
    sealed = {int(part.stem) for part in parts}
    journals = [folder.journal, *shard_journals(folder)]
    saved = {
        (response.index, response.sample): response
        for path in journals
        for response in saved_answers(path, identity.run_id)
    }
    waiting = [r for r in saved.values() if r.index // identity.part_rows not in sealed]
    counts = count_responses(waiting)
    for part in parts:
        counted = _counts(part)
        check_size(part, counted.rows, identity.output_rows(int(part.stem)))
        counts += counted
    return SavedRows(parts, waiting, counts)


def _counts(part: Path) -> Counts:
    record = part.with_suffix(".json")
    if exists(record):
        return Counts(**read_json(record)["counts"])
    return count_part(read_part(part))  # sealed just now, or by a process that died


_FAILURE = ("id", "finish_reason", "error_code")


def _published_failures(published: PublishedRun) -> Iterator[pa.Table]:
    if not exists(published.folder.release):
        yield from published.answers(_FAILURE)
        return
    for path in responses_in(published.folder).paths:  # some are old and some new
        file = ParquetTable([path])
        names = [written_prefix(file) + name for name in _FAILURE]
        yield from (table.rename_columns(_FAILURE) for table in file.row_groups(names))


def _failure_columns(part: pa.Table) -> pa.Table:
    prefix = answer_prefix(part.schema)
    return part.select([prefix + name for name in _FAILURE]).rename_columns(_FAILURE)


def _failures(tables: Iterable[pa.Table], waiting: Sequence[Response] = ()) -> list[FailedRows]:
    """The failures in tables, and in responses that are in no part yet."""
    failed = [(r.id, r.finish_reason, r.failure.code) for r in waiting if r.failure]
    frames = [pl.DataFrame(failed, schema=dict.fromkeys(_FAILURE, pl.String), orient="row")]
    is_failure = pl.col("error_code").is_not_null()
    frames += [pl.DataFrame(pl.from_arrow(table)).filter(is_failure) for table in tables]
    frame = (
        pl.concat(frames)
        .group_by("error_code", "finish_reason", maintain_order=True)
        .agg(pl.len().alias("count"), pl.col("id").head(3).alias("examples"))
        .sort("count", descending=True)
    )
    return [FailedRows(*row) for row in frame.iter_rows()]
