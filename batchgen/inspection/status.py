"""Inspect a run folder: progress, failures, single answers."""

import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl
import pyarrow as pa

from batchgen.errors import StateError, UsageError
from batchgen.output.published_run import PublishedRun
from batchgen.output.unfinished_run import how_to_complete, why_unfinished
from batchgen.records import Message, Response
from batchgen.state.identity import Identity, read_identity
from batchgen.state.parts import Counts, count_responses, count_table, read_part
from batchgen.state.run_folder import RunFolder, open_folder, read_json
from batchgen.state.sqlite_journal import saved_answers


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

    @property
    def how_to_complete(self) -> str:
        """What completes the run if it is not complete; a sentence."""
        return how_to_complete(self.folder)


@dataclass(frozen=True, slots=True)
class AnswerView:
    """An output row, as `show` prints it."""

    id: str
    sample: int
    messages: Sequence[Message]
    response: str | None
    reasoning: str | None
    finish_reason: str
    error_code: str
    error: str
    output_tokens: int


def status(path: Path) -> RunStatus:
    """Read the progress of a run."""
    folder = open_folder(path)
    withheld = folder.withheld.exists()
    if folder.complete and not withheld:
        published = PublishedRun(folder)
        if not folder.release.exists():  # an interrupted replacement has a status, too
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
            failed=_failures(published.answers(_FAILURE)),
        )
    identity = read_identity(folder)
    if identity is None:
        raise StateError(f"{folder.run} is missing", hint="Start over with --fresh.")
    saved = read_saved(folder, identity)
    names = [identity.settings["output"]["prefix"] + name for name in _FAILURE]
    tables = (read_part(part).select(names).rename_columns(_FAILURE) for part in saved.parts)
    return RunStatus(
        folder=folder,
        state="withheld" if withheld else "running" if _held(folder) else "incomplete",
        job=folder.path.name,
        run_id=identity.run_id,
        started_at=identity.started_at,
        expected_rows=identity.rows * identity.settings["decoding"]["num_return_sequences"],
        counts=saved.counts,
        failed=_failures(tables, saved.waiting),
        withheld=read_json(folder.withheld)["why"] if withheld else (),
    )


class SavedRows(NamedTuple):
    """What is saved and not published: sealed parts, and the journal's answers that are in none of them."""

    parts: Sequence[Path]
    waiting: Sequence[Response]
    counts: Counts


def read_saved(folder: RunFolder, identity: Identity) -> SavedRows:
    """Find and count the rows that are saved and not published."""
    parts = sorted(folder.parts.glob("*.bgpart"))
    sealed = {int(part.stem) for part in parts}
    saved = saved_answers(folder.journal, identity.run_id)
    waiting = [r for r in saved if r.index // identity.part_rows not in sealed]
    prefix = identity.settings["output"]["prefix"]
    counts = sum((_counts(part, prefix) for part in parts), count_responses(waiting))
    return SavedRows(parts, waiting, counts)


def find_answers(folder: RunFolder, where: pl.Expr, most: int) -> list[AnswerView]:
    """The first `most` answers of a complete run that fulfil a condition on the answer columns (without prefix)."""
    if not folder.manifest.exists():
        why = why_unfinished(folder)
        raise UsageError(why.problem, hint=why.hint)
    published = PublishedRun(folder)
    published.check(hashes=False, only_responses=True)
    tables = published.answers(list(AnswerView.__dataclass_fields__))
    frames = (pl.DataFrame(pl.from_arrow(table)).filter(where) for table in tables)
    rows = (row for frame in frames for row in frame.iter_rows(named=True))
    return [_answer(row) for row in islice(rows, most)]


def _answer(row: Mapping[str, Any]) -> AnswerView:
    messages = [Message(m["role"], m["content"]) for m in row["messages"] or ()]
    texts = {name: row[name] or "" for name in ("error_code", "error")}
    tokens = row["output_tokens"] or 0
    return AnswerView(**{**row, **texts, "messages": messages, "output_tokens": tokens})


def _counts(part: Path, prefix: str) -> Counts:
    record = part.with_suffix(".json")
    if record.exists():
        return Counts(**read_json(record)["counts"])
    return count_table(read_part(part), prefix)  # sealed just now, or by a process that died


_FAILURE = ("id", "finish_reason", "error_code")


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


def _held(folder: RunFolder) -> bool:
    """Whether the process that last took the lock is alive; a guess that does not touch the lock itself."""
    try:
        owner = json.loads(folder.lock.read_text())
        if owner["host"] != socket.gethostname():
            return False
        os.kill(owner["pid"], 0)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True
