"""`batchgen verify`: compare every file of a run folder with its record. Reads all of it, changes nothing.

    manifest ── size and sha256 of its files ── their pages, schema, counts     once the run is complete
    run.json ── sealed parts ── journal                                         private state

A running run can be verified too: sealed parts do not change.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from batchgen.errors import StateError
from batchgen.fingerprint import fingerprint
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.published_run import IntegrityIssue, Manifest, PublishedFile, PublishedRun
from batchgen.output.schema import ANSWER_COLUMNS
from batchgen.state.identity import read_identity
from batchgen.state.parts import Counts, count_table, file_metadata_of, read_part
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.state.sqlite_journal import saved_answers
from batchgen.storage.durable import sha256

_COUNTED = ("rows", "failed", "skipped", "cut_by_length", "input_tokens", "output_tokens")
"""What can be counted again from the responses; how much was redacted cannot."""


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """The result of `verify`. `checked` are the files that were read, relative to the run folder."""

    state: Literal["complete", "incomplete", "withheld"]
    checked: Sequence[str]
    issues: Sequence[IntegrityIssue]


def verify(folder: RunFolder) -> IntegrityReport:
    """Check a run folder: see the head of this file."""
    private = [folder.run, *sorted(folder.parts.glob("*.bgpart")), folder.journal]
    checked = [_relative(folder, path) for path in private if path.exists()]
    run: PublishedRun | None = None
    published: list[IntegrityIssue] = []
    if folder.manifest.exists():
        try:
            run = PublishedRun(folder)
        except StateError as error:
            published = [IntegrityIssue(folder.manifest.name, _problem(error, folder.manifest))]
    issues = list(_private_issues(folder, run))
    if folder.release.exists():
        why = (
            "exists: publishing was interrupted; repeat the same `batchgen run` or `batchgen score`"
        )
        issues.append(IntegrityIssue(_relative(folder, folder.release), why))
    elif folder.manifest.exists():
        issues += published if run is None else _published_issues(run)
        names = [] if run is None else [file.name for file in run.manifest.files]
        checked += [folder.manifest.name, *names]
    complete: Literal["complete", "incomplete"] = "complete" if folder.complete else "incomplete"
    return IntegrityReport("withheld" if folder.withheld.exists() else complete, checked, issues)


def _private_issues(folder: RunFolder, run: PublishedRun | None) -> Iterator[IntegrityIssue]:
    name = _relative(folder, folder.run)
    try:
        identity = read_identity(folder)
    except StateError as error:
        yield IntegrityIssue(name, _problem(error, folder.run))
        return
    if identity is None:
        yield IntegrityIssue(name, "is missing")
        return
    # With `publish: gated`, published and private files may belong to different runs.
    same_run = run is not None and run.manifest.run_id == identity.run_id
    if run is not None and same_run and run.manifest.fingerprint != identity.fingerprint:
        yield IntegrityIssue(folder.manifest.name, f"has another fingerprint than {name}")
    for part in sorted(folder.parts.glob("*.bgpart")):
        yield from _corrupt_part(folder, part)
    if folder.journal.exists():
        yield from _corrupt_journal(folder, identity.run_id)


def _corrupt_part(folder: RunFolder, part: Path) -> Iterator[IntegrityIssue]:
    name, record = _relative(folder, part), part.with_suffix(".json")
    try:
        # A process that is killed between the commit and its record leaves a part without one.
        if record.exists() and read_json(record)["sha256"] != sha256(part):
            yield IntegrityIssue(name, "has another sha256 than when it was sealed")
        read_part(part)
    except FileNotFoundError:
        return  # a running process has published and deleted it
    except KeyError:
        yield IntegrityIssue(name, "has a damaged record")
    except StateError as error:
        yield IntegrityIssue(name, error.message.removeprefix(f"the saved part {part} "))


def _corrupt_journal(folder: RunFolder, run_id: str) -> Iterator[IntegrityIssue]:
    name = _relative(folder, folder.journal)
    try:
        with closing(sqlite3.connect(f"{folder.journal.as_uri()}?mode=ro", uri=True)) as database:
            (result,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            (records,) = database.execute("SELECT count(*) FROM answers").fetchone()
    except sqlite3.Error as error:
        yield IntegrityIssue(name, f"cannot be read: {error}")
        return
    if result != "ok":
        yield IntegrityIssue(name, f"is damaged: {result}")
    elif bad := records - len(saved_answers(folder.journal, run_id)):
        yield IntegrityIssue(name, f"has {bad:,} damaged records")


def _published_issues(run: PublishedRun) -> Iterator[IntegrityIssue]:
    folder, manifest = run.folder, run.manifest
    if manifest.fingerprint != fingerprint(manifest.settings):
        problem = "has settings that do not match their fingerprint"
        yield IntegrityIssue(folder.manifest.name, problem)
    changed = list(run.issues())
    yield from changed
    # Readers take every file in the folder of the parts for responses.
    names = {file.name for file in manifest.files}
    for path in sorted(folder.response_parts.glob("*")):
        if (name := _relative(folder, path)) not in names:
            yield IntegrityIssue(name, "is not in the manifest")
    if not changed:
        yield from _mismatched_files(run)


def _mismatched_files(run: PublishedRun) -> Iterator[IntegrityIssue]:
    """Responses that cannot be read, or that contradict the manifest."""
    counts = Counts()
    for file in run.manifest.files:
        if not file.has_responses:
            continue
        try:
            problems, counted_rows = _read(run.folder.path / file.name, file, run.manifest)
        except (StateError, ValueError, KeyError):
            yield IntegrityIssue(file.name, "cannot be read")
            return
        yield from (IntegrityIssue(file.name, problem) for problem in problems)
        counts += counted_rows
    recorded_counts, counted = asdict(run.manifest.counts), asdict(counts)
    for name in _COUNTED:
        if recorded_counts[name] != counted[name]:
            problem = f"has {recorded_counts[name]:,} as {name}, counted {counted[name]:,}"
            yield IntegrityIssue(run.folder.manifest.name, problem)


def _read(path: Path, file: PublishedFile, manifest: Manifest) -> tuple[list[str], Counts]:
    problems = []
    table = ParquetTable([path])
    expected = [(manifest.prefix + name, kind) for name, kind in ANSWER_COLUMNS.items()]
    names = {name for name, _ in expected}
    # Kept columns come first, scores last.
    if [(f.name, f.type) for f in table.schema if f.name in names] != expected:
        problems.append("has other columns than batchgen writes")
    if file_metadata_of(table.schema)["fingerprint"] != manifest.fingerprint:
        problems.append("was made by another job than the manifest")
    counts = sum((count_table(group, manifest.prefix) for group in table.row_groups()), Counts())
    if counts.rows != file.rows:
        problems.append(f"has {counts.rows:,} rows, expected {file.rows:,}")
    return problems, counts


def _relative(folder: RunFolder, path: Path) -> str:
    return path.relative_to(folder.path).as_posix()


def _problem(error: StateError, path: Path) -> str:
    """The message without the file's path, which issues name themselves."""
    return error.message.removeprefix(f"{path} ")
