"""`batchgen verify`: compare every file of a run folder with its record. Reads all of it, changes nothing.

    manifest ── size and sha256 of its files ── their pages, schema, counts     once the run is complete
    run.json ── sealed parts ── journal                                         private state

A running run can be verified too: sealed parts do not change.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from batchgen.errors import ResourceError, StateError
from batchgen.feedback.votes_file import feedback_folder, read_votes_file
from batchgen.fingerprint import fingerprint
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.published_run import (
    JOB_HASH,
    IntegrityIssue,
    Manifest,
    PublishedFile,
    PublishedRun,
    job_issue,
)
from batchgen.output.schema import ANSWER_COLUMNS
from batchgen.output.unfinished_run import find_state, has_lost_manifest
from batchgen.state.column_settings import with_columns_of
from batchgen.state.file_metadata import file_metadata_of
from batchgen.state.identity import Identity, read_identity
from batchgen.state.parts import (
    Counts,
    check_size,
    count_table,
    foreign_files,
    part_sha256,
    read_part,
)
from batchgen.state.run_folder import PUBLISHED_BEFORE, RunFolder, read_json
from batchgen.state.shards.shard_journal import shard_journals
from batchgen.state.sqlite_journal import saved_answers
from batchgen.storage.entries import check_regular, exists, irregular, list_folder
from batchgen.storage.sqlite import files_of, read_only

_COUNTED = ("rows", "failed", "skipped", "cut_by_length", "input_tokens", "output_tokens")
"""What can be counted again from the responses; how much was redacted cannot."""


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """The result of `verify`. Files are relative to the run folder.

    Attributes:
        checked: the files that were read.
        unchecked: the folders that this user may not read.
    """

    state: Literal["complete", "running", "incomplete", "withheld"]
    checked: Sequence[str]
    issues: Sequence[IntegrityIssue]
    unchecked: Sequence[str] = ()


def verify(folder: RunFolder, *, has_private: bool = True) -> IntegrityReport:
    """Check a run folder: see the head of this file. A copy of a run in object storage has no private part."""
    private = [folder.run, *_parts(folder), folder.journal, *shard_journals(folder)]
    checked = [_relative(folder, path) for path in private if exists(path)]
    run: PublishedRun | None = None
    published: list[IntegrityIssue] = []
    if exists(folder.manifest):
        try:
            run = PublishedRun(folder)
        except StateError as error:
            published = [IntegrityIssue(folder.manifest.name, _problem(error, folder.manifest))]
    issues: list[IntegrityIssue] = []
    if has_private and folder.is_private_readable:
        issues += [*_corrupt_notes(folder), *_private_issues(folder, run)]
    if exists(folder.release):
        why = (
            "exists: publishing was interrupted; repeat the same `batchgen run` or `batchgen score`"
        )
        issues.append(IntegrityIssue(_relative(folder, folder.release), why))
    elif has_lost_manifest(folder):
        issues.append(IntegrityIssue(folder.manifest.name, "is missing next to published files"))
    elif exists(folder.manifest):
        issues += published if run is None else _published_issues(run)
        names = [] if run is None else [file.name for file in run.manifest.files]
        checked += [folder.manifest.name, *names]
    votes = list_folder(feedback_folder(folder), ".jsonl")
    checked += [_relative(folder, path) for path in votes]
    issues += [issue for path in votes for issue in _corrupt_votes(folder, path)]
    unchecked = [] if folder.is_private_readable else [_relative(folder, folder.private)]
    state = "withheld" if exists(folder.withheld) else find_state(folder)
    return IntegrityReport(state, checked, issues, unchecked)


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
    started = read_json(folder.run)
    if run is not None:
        yield from _other_run(folder, run.manifest, identity, started)
    elif not exists(folder.manifest) and (edited := job_issue(folder, started.get(JOB_HASH))):
        yield edited
    yield from _corrupt_parts(folder, identity)
    for journal in (folder.journal, *shard_journals(folder)):
        if exists(journal):
            yield from _corrupt_journal(folder, journal, identity.run_id)
    if exists(folder.withheld):
        yield from _corrupt_staged(folder)


def _other_run(
    folder: RunFolder, manifest: Manifest, identity: Identity, started: Mapping[str, Any]
) -> Iterator[IntegrityIssue]:
    """A manifest that does not belong to the run of run.json, whose content is `started`.

    A run that was published when that run started stays so until that one replaces it.
    """
    run_id, name = manifest.run_id, _relative(folder, folder.run)
    if run_id == identity.run_id:
        # While the columns of the output change, only one of the two has the new ones.
        expected = fingerprint(with_columns_of(identity.settings, manifest.settings))
        if manifest.fingerprint not in (identity.fingerprint, expected):
            yield IntegrityIssue(folder.manifest.name, f"has another fingerprint than {name}")
    elif started.get(PUBLISHED_BEFORE) != run_id and folder.find_aside(run_id) is None:
        yield IntegrityIssue(folder.manifest.name, f"belongs to another run than {name}")


def _corrupt_staged(folder: RunFolder) -> Iterator[IntegrityIssue]:
    """Withheld answers and scores that cannot be read."""
    for path in list_folder(folder.staged, ".parquet"):
        try:
            sum(table.num_rows for table in ParquetTable([path]).row_groups())
        except StateError as error:
            yield IntegrityIssue(_relative(folder, path), _problem(error, path))


def _parts(folder: RunFolder) -> list[Path]:
    return list_folder(folder.parts, ".bgpart")


def _corrupt_notes(folder: RunFolder) -> Iterator[IntegrityIssue]:
    """Small files of the private folder that contain no answers."""
    for path in (folder.lock, folder.journal.with_suffix(".running"), *files_of(folder.journal)):
        if kind := irregular(path):
            yield IntegrityIssue(_relative(folder, path), f"is {kind}; expected a file")
    notes = [folder.retry, folder.withheld, folder.release, folder.incremental]
    for path in list_folder(folder.claims):
        if not path.is_symlink():
            yield IntegrityIssue(_relative(folder, path), "is not a claim of a part")
    for path in notes:
        try:
            check_regular(path)
            if exists(path):
                read_json(path)
        except StateError as error:
            yield IntegrityIssue(_relative(folder, path), _problem(error, path))


def _corrupt_parts(folder: RunFolder, identity: Identity) -> Iterator[IntegrityIssue]:
    foreign = foreign_files(folder)
    for path in foreign:
        yield IntegrityIssue(_relative(folder, path), "is not a file of the run")
    for part in (path for path in _parts(folder) if path not in foreign):
        yield from _corrupt_part(folder, part, identity.output_rows(int(part.stem)))


def _corrupt_part(folder: RunFolder, part: Path, rows: int) -> Iterator[IntegrityIssue]:
    name, record = _relative(folder, part), part.with_suffix(".json")
    try:
        # A process that is killed between the commit and its record leaves a part without one.
        if exists(record) and read_json(record)["sha256"] != part_sha256(part):
            yield IntegrityIssue(name, "has another sha256 than when it was sealed")
        check_size(part, read_part(part).num_rows, rows)
    except KeyError:
        yield IntegrityIssue(_relative(folder, record), "is damaged")
    except (StateError, ResourceError) as error:
        if not exists(part) and not irregular(part):
            return  # a running process has published and deleted it
        of_part = error.message.removeprefix(f"the saved part {part} ").removeprefix(f"{part} ")
        of_record = error.message.removeprefix(f"{record} ")
        is_record = of_record != error.message
        yield IntegrityIssue(
            _relative(folder, record) if is_record else name, of_record if is_record else of_part
        )


def _corrupt_journal(folder: RunFolder, journal: Path, run_id: str) -> Iterator[IntegrityIssue]:
    name = _relative(folder, journal)
    try:
        with read_only(journal) as database:
            result = database.execute("PRAGMA integrity_check(1)").fetchone()
            tables = database.execute("SELECT name FROM sqlite_master").fetchall()
            if ("answers",) not in tables:
                return  # a process was killed when it created the file
            (records,) = database.execute("SELECT count(*) FROM answers").fetchone()
    except StateError:
        return  # see `_corrupt_notes`
    except sqlite3.Error as error:
        if not journal.stat().st_size:
            return  # SQLite could not open it when it was created, as where the path is too long
        yield IntegrityIssue(name, f"cannot be read: {error}")
        return
    if result != ("ok",):
        yield IntegrityIssue(name, f"is damaged: {result}")
    elif bad := records - len(saved_answers(journal, run_id)):
        yield IntegrityIssue(name, f"has {bad:,} damaged records")


def _corrupt_votes(folder: RunFolder, path: Path) -> Iterator[IntegrityIssue]:
    """A line that is not a vote; a half-written last one is not damage."""
    try:
        read_votes_file(path)
    except (StateError, ResourceError) as error:
        of_line = error.message.removeprefix(f"{path}:")
        whole = error.message.removeprefix(f"{path} ")
        problem = whole if of_line == error.message else f"line {of_line}"
        yield IntegrityIssue(_relative(folder, path), problem)


def _published_issues(run: PublishedRun) -> Iterator[IntegrityIssue]:
    folder, manifest = run.folder, run.manifest
    if manifest.fingerprint != fingerprint(manifest.settings):
        problem = "has settings that do not match their fingerprint"
        yield IntegrityIssue(folder.manifest.name, problem)
    changed = list(run.issues())
    yield from changed
    yield from (IntegrityIssue(name, "is not in the manifest") for name in run.foreign_files())
    if edited := run.job_issue():
        yield edited
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
