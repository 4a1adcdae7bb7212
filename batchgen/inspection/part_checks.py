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
from batchgen.output.publish import Finding, PublishedFile
from batchgen.output.schema import ANSWER_COLUMNS
from batchgen.state.parts import Counts, count, read_part, recorded
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.state.sqlite_journal import saved_answers
from batchgen.storage.durable import sha256

_COUNTED = ("rows", "failed", "skipped", "cut_by_length", "input_tokens", "output_tokens")
"""What can be counted again from the answers; how much was redacted cannot."""


def foreign(folder: RunFolder, names: set[str]) -> Iterator[Finding]:
    """Files among the published parts that the manifest does not name: a reader would take them for answers."""
    if folder.response_parts.is_dir():
        for path in sorted(folder.response_parts.iterdir()):
            if relative(folder, path) not in names:
                yield Finding(relative(folder, path), "is not in the manifest")


def unlike(
    folder: RunFolder, files: Sequence[PublishedFile], manifest: Mapping[str, Any]
) -> Iterator[Finding]:
    """Published answers that cannot be read page by page, or disagree with what the manifest says of them."""
    prefix = manifest["settings"]["output"]["prefix"]
    counted = Counts()
    for file in files:
        if not file.name.startswith("responses"):
            continue
        try:
            problems, counts = _read(folder, file, prefix, manifest["fingerprint"])
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            yield Finding(file.name, f"cannot be read: {type(error).__name__}")
            return
        yield from (Finding(file.name, problem) for problem in problems)
        counted += counts
    stated, found = manifest["counts"], asdict(counted)
    for name in _COUNTED:
        if stated[name] != found[name]:
            said = f"says {stated[name]:,} {name}, the answers have {found[name]:,}"
            yield Finding(folder.manifest.name, said)


def damaged(folder: RunFolder, part: Path) -> Iterator[Finding]:
    """A sealed part that is not what was sealed, or whose pages cannot be read."""
    name, record = relative(folder, part), part.with_suffix(".json")
    try:
        # Killed between the commit and its record, a part has none: the next run makes it.
        if record.exists() and read_json(record)["sha256"] != sha256(part):
            yield Finding(name, "has another sha256 than when it was sealed")
        read_part(part)
    except FileNotFoundError:
        # A run that published it meanwhile has no more use for it.
        return
    except (StateError, KeyError) as error:
        said = error.message if isinstance(error, StateError) else "its record is damaged"
        yield Finding(name, said.removeprefix(f"the saved part {part} "))


def damaged_journal(folder: RunFolder, run_id: str) -> Iterator[Finding]:
    """A journal that SQLite cannot read, or that holds records which are not what was written."""
    name = relative(folder, folder.journal)
    try:
        with closing(sqlite3.connect(f"{folder.journal.as_uri()}?mode=ro", uri=True)) as database:
            (said,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            (held,) = database.execute("SELECT count(*) FROM answers").fetchone()
    except sqlite3.Error as error:
        yield Finding(name, f"cannot be read: {error}")
        return
    if said != "ok":
        yield Finding(name, f"is damaged: {said}")
    elif bad := held - len(saved_answers(folder.journal, run_id)):
        yield Finding(name, f"has {bad:,} records that are not what was written")


def relative(folder: RunFolder, path: Path) -> str:
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
        if recorded(schema)["fingerprint"] != fingerprint:
            problems.append("was made by another job than the manifest says")
        groups = (opened.read_row_group(n) for n in range(opened.num_row_groups))
        counts = sum((count(group, prefix) for group in groups), Counts())
    if counts.rows != file.rows:
        problems.append(f"has {counts.rows:,} rows, expected {file.rows:,}")
    return problems, counts
