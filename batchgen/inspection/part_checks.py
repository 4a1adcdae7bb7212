"""Whether files of a run still say what they said when they were written: size, hash, every page, schema, counts.

Each function yields what is wrong, nothing for a file that is whole. Knows nothing of jobs or of what should be
there: that is the manifest's, which the caller has read.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.errors import StateError
from batchgen.output.publish import IntegrityIssue, PublishedFile
from batchgen.output.schema import ANSWER_COLUMNS
from batchgen.state.parts import Counts, count_table, file_metadata_of, read_part
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.state.sqlite_journal import saved_answers
from batchgen.storage.durable import sha256

_COUNTED = ("rows", "failed", "skipped", "cut_by_length", "input_tokens", "output_tokens")
"""What can be counted again from the answers; how much was redacted cannot."""


def unexpected_files(folder: RunFolder, names: set[str]) -> Iterator[IntegrityIssue]:
    """Files among the published parts that the manifest does not name: a reader would take them for answers."""
    if folder.response_parts.is_dir():
        for path in sorted(folder.response_parts.iterdir()):
            if relative_name(folder, path) not in names:
                yield IntegrityIssue(relative_name(folder, path), "is not in the manifest")


def mismatched_files(
    folder: RunFolder, files: Sequence[PublishedFile], manifest: Mapping[str, Any]
) -> Iterator[IntegrityIssue]:
    """Published answers that cannot be read page by page, or disagree with what the manifest says of them."""
    prefix = manifest["settings"]["output"]["prefix"]
    counted = Counts()
    for file in files:
        if not file.name.startswith("responses"):
            continue
        try:
            problems, counts = _read(folder, file, prefix, manifest["fingerprint"])
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            yield IntegrityIssue(file.name, f"cannot be read: {type(error).__name__}")
            return
        yield from (IntegrityIssue(file.name, problem) for problem in problems)
        counted += counts
    stated, found = manifest["counts"], asdict(counted)
    for name in _COUNTED:
        if stated[name] != found[name]:
            said = f"says {stated[name]:,} {name}, the answers have {found[name]:,}"
            yield IntegrityIssue(folder.manifest.name, said)


def corrupt_part(folder: RunFolder, part: Path) -> Iterator[IntegrityIssue]:
    """A sealed part that is not what was sealed, or whose pages cannot be read."""
    name, record = relative_name(folder, part), part.with_suffix(".json")
    try:
        # Killed between the commit and its record, a part has none: the next run makes it.
        if record.exists() and read_json(record)["sha256"] != sha256(part):
            yield IntegrityIssue(name, "has another sha256 than when it was sealed")
        read_part(part)
    except FileNotFoundError:
        # A run that published it meanwhile has no more use for it.
        return
    except (StateError, KeyError) as error:
        said = error.message if isinstance(error, StateError) else "its record is damaged"
        yield IntegrityIssue(name, said.removeprefix(f"the saved part {part} "))


def corrupt_journal(folder: RunFolder, run_id: str) -> Iterator[IntegrityIssue]:
    """A journal that SQLite cannot read, or that holds records which are not what was written."""
    name = relative_name(folder, folder.journal)
    try:
        with closing(sqlite3.connect(f"{folder.journal.as_uri()}?mode=ro", uri=True)) as database:
            (said,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            (held,) = database.execute("SELECT count(*) FROM answers").fetchone()
    except sqlite3.Error as error:
        yield IntegrityIssue(name, f"cannot be read: {error}")
        return
    if said != "ok":
        yield IntegrityIssue(name, f"is damaged: {said}")
    elif bad := held - len(saved_answers(folder.journal, run_id)):
        yield IntegrityIssue(name, f"has {bad:,} records that are not what was written")


def relative_name(folder: RunFolder, path: Path) -> str:
    """A file's name as findings show it."""
    return path.relative_to(folder.path).as_posix()


def _read(
    folder: RunFolder, file: PublishedFile, prefix: str, fingerprint: str
) -> tuple[list[str], Counts]:
    problems = []
    with pq.ParquetFile(folder.path / file.name, page_checksum_verification=True) as opened:
        schema = opened.schema_arrow
        expected = [(prefix + name, kind) for name, kind in ANSWER_COLUMNS.items()]
        names = {name for name, _ in expected}
        # Kept columns stand before them, scores behind.
        if [(f.name, f.type) for f in schema if f.name in names] != expected:
            problems.append("has other columns than batchgen writes")
        if file_metadata_of(schema)["fingerprint"] != fingerprint:
            problems.append("was made by another job than the manifest says")
        groups = (opened.read_row_group(n) for n in range(opened.num_row_groups))
        counts = sum((count_table(group, prefix) for group in groups), Counts())
    if counts.rows != file.rows:
        problems.append(f"has {counts.rows:,} rows, expected {file.rows:,}")
    return problems, counts
