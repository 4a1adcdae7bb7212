"""The published files of a complete run, for every command that reads one.

    manifest.json                                   Manifest: run id, settings, counts; name, size and sha256 of each file
    responses.parquet, or responses/*.parquet       ParquetTable: row groups, one at a time

A file is checked against the manifest before it is read.
"""

import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import polars as pl
import pyarrow as pa

from batchgen.errors import StateError
from batchgen.fingerprint import differences
from batchgen.job.roles import settings_of
from batchgen.job.spec import Job
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.unfinished_run import check_manifest_exists, why_unfinished
from batchgen.section import Role
from batchgen.state.column_settings import column_settings, without_defaults
from batchgen.state.file_metadata import file_metadata_of
from batchgen.state.parts import Counts
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.durable import read_errors, sha256
from batchgen.storage.entries import check_regular, exists, irregular, is_folder, list_folder

JOB_HASH = "job_sha256"
"""Key of manifest.json and of run.json: the sha256 of job.yaml."""

PUBLISHED_AS = "published_as"
"""Key of manifest.json: the settings of the job that decide how answers are published; see `publication_settings`."""

FileLayout = Literal["file", "parts"]
"""The responses are one Parquet file, or a folder with one file per part."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """An entry of the manifest's `files`; `name` is relative to the run folder."""

    name: str
    sha256: str
    bytes: int
    rows: int

    @property
    def has_responses(self) -> bool:
        return self.name.startswith("responses")


@dataclass(frozen=True, slots=True)
class IntegrityIssue:
    """A file that differs from its record. `file` is relative to the run folder; `problem` never quotes a row."""

    file: str
    problem: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a complete run.

    Attributes:
        settings: everything that decides the responses; `fingerprint` is its hash.
        evaluation: metrics, columns and gates of the last scoring.
    """

    content: Mapping[str, Any] = field(repr=False)
    run_id: str
    fingerprint: str
    settings: Mapping[str, Any]
    files: Sequence[PublishedFile]
    counts: Counts
    samples: int
    evaluation: Mapping[str, Any]

    @property
    def prefix(self) -> str:
        """The job's `output.prefix`, which every answer column begins with."""
        return str(self.settings["output"]["prefix"])


def read_manifest(folder: RunFolder) -> Manifest:
    """Read the manifest of a complete run."""
    if not exists(folder.manifest):
        check_manifest_exists(folder)
        raise why_unfinished(folder).error(StateError)
    content = read_json(folder.manifest)
    try:
        names = ("run_id", "fingerprint", "settings", "samples", "evaluation")
        files = tuple(PublishedFile(**file) for file in content["files"])
        same = {name: content[name] for name in names}
        return Manifest(content, files=files, counts=Counts(**content["counts"]), **same)
    except (KeyError, TypeError) as error:
        raise StateError(
            f"{folder.manifest} is damaged: {error}",
            hint="Start over with `batchgen run --fresh`: the old run is moved aside, not deleted.",
        ) from error


class PublishedRun:
    """The published files of a complete run."""

    def __init__(self, folder: RunFolder) -> None:
        """Read the manifest, and no other file."""
        self.folder = folder
        self.manifest = read_manifest(folder)

    @property
    def layout(self) -> FileLayout:
        names = [file.name for file in self.manifest.files]
        return "file" if self.folder.responses.name in names else "parts"

    @cached_property
    def responses(self) -> ParquetTable:
        """The answers with their input columns and scores."""
        files = [file.name for file in self.manifest.files if file.has_responses]
        return ParquetTable([self.folder.path / name for name in files])

    @property
    def schema(self) -> pa.Schema:
        """The columns of the responses without the scores."""
        scores = set(self.manifest.evaluation.get("columns", ()))
        columns = self.responses.schema.remove_metadata()
        return pa.schema([column for column in columns if column.name not in scores])

    @property
    def file_mode(self) -> int:
        return stat.S_IMODE(self.responses.paths[0].stat().st_mode)

    @property
    def published_as(self) -> Mapping[str, Any]:
        """The `publication_settings` of the job that was published; earlier versions recorded only the columns."""
        if (recorded := self.manifest.content.get(PUBLISHED_AS)) is not None:
            return dict(recorded)
        return {
            **column_settings(self.manifest.settings["output"]),
            "layout": self.layout,
            "compression": self.responses.compression,
            "file_mode": _mode_text(self.file_mode),
        }

    @property
    def origin(self) -> dict[str, Any]:
        """The part of the manifest that the metadata of every published file repeats."""
        keys = ("job", "fingerprint", "settings", "model", "versions")
        return {key: self.manifest.content[key] for key in keys}

    def answers(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Some answer columns, without prefix, a row group at a time."""
        columns = [self.manifest.prefix + name for name in names]
        for table in self.responses.row_groups(columns):
            yield table.rename_columns(list(names))

    def index(self, names: Sequence[str]) -> pl.DataFrame:
        """Some answer columns of all rows, without prefix, and `row`: the row's number for `responses.take`."""
        columns = [self.manifest.prefix + name for name in names]
        table = self.responses.read(columns).rename_columns(list(names))
        return pl.DataFrame(pl.from_arrow(table)).with_row_index("row")

    def find(
        self, keys: Sequence[tuple[str, int]], names: Sequence[str]
    ) -> list[dict[str, Any] | None]:
        """Some answer columns, without prefix, of the rows with these ids and samples; None for a missing row."""
        schema = {"id": pl.String, "sample": pl.Int32}
        wanted = pl.DataFrame(list(keys), schema, orient="row")
        joined = wanted.join(self._keys, on=list(schema), how="left", maintain_order="left")
        rows = joined["row"]
        columns = [self.manifest.prefix + name for name in names]
        taken = self.responses.take(rows.drop_nulls().to_list(), columns)
        values = iter(taken.rename_columns(list(names)).to_pylist())
        return [None if row is None else next(values) for row in rows]

    @cached_property
    def _keys(self) -> pl.DataFrame:
        return self.index(["id", "sample"]).unique(["id", "sample"], keep="last")

    def frame(self) -> pl.DataFrame:
        return pl.DataFrame(pl.from_arrow(self.responses.read()))

    def issues(
        self, *, hashes: bool = True, only_responses: bool = False
    ) -> Iterator[IntegrityIssue]:
        """Published files that are missing or that differ from the manifest; without `hashes`, only sizes are compared."""
        for file in self.manifest.files:
            path = self.folder.path / file.name
            if only_responses and not file.has_responses:
                continue
            if kind := irregular(path):
                yield IntegrityIssue(file.name, f"is {kind}; expected a file")
                continue
            if not exists(path):
                yield IntegrityIssue(file.name, "is missing")
                continue
            with read_errors(path):
                size = path.stat().st_size
                found = sha256(path) if hashes and size == file.bytes else file.sha256
            if size != file.bytes:
                yield IntegrityIssue(file.name, f"has {size:,} bytes, expected {file.bytes:,}")
            elif found != file.sha256:
                yield IntegrityIssue(file.name, f"has sha256 {found}, expected {file.sha256}")

    def foreign_files(self) -> list[str]:
        """Files in the place of published ones that the manifest does not list: other readers take them for responses."""
        names = {file.name for file in self.manifest.files}
        folder, parts = self.folder, self.folder.response_parts
        places = [path for path in folder.published if path != parts or not is_folder(path)]
        found = [path for path in places if exists(path)] + list_folder(parts)
        relative = [path.relative_to(folder.path).as_posix() for path in found]
        return [name for name in relative if name not in names]

    def job_issue(self) -> IntegrityIssue | None:
        """Whether job.yaml differs from the one that was published; None for a run of a version that recorded no hash."""
        return job_issue(self.folder, self.manifest.content.get(JOB_HASH))

    def check(self, *, hashes: bool = True, only_responses: bool = False) -> None:
        """Raise if a published file differs from the manifest; see `issues`."""
        check_no_pending_release(self.folder)
        for name in () if only_responses else self.foreign_files():
            raise StateError(
                f"{self.folder.path / name} is not in the manifest of the run",
                hint="Move it to another folder: readers take it for answers of this run.",
            )
        for issue in self.issues(hashes=hashes, only_responses=only_responses):
            path = self.folder.path / issue.file
            hint = (
                "Start over with `batchgen run --fresh`: the old run is moved aside, not deleted."
            )
            if path in (self.folder.scores, self.folder.metrics):
                hint = f"Make it again: batchgen score {shlex.quote(str(self.folder.path))}"
            raise StateError(
                f"{path} was changed or damaged after it was published: it {issue.problem}",
                hint=hint,
            )


def publication_settings(job: Job) -> dict[str, Any]:
    """The keys of `output` that decide how answers are published, as plain values: the keys of `Role.PUBLICATION`."""
    output: dict[str, Any] = settings_of(job, Role.PUBLICATION)["output"]
    return {**without_defaults(output), "file_mode": _mode_text(int(job.output.file_mode, 8))}


def publication_changes(published: PublishedRun, job: Job) -> list[str]:
    """What of the job differs from how the run was published, such as `output.prefix was "", is "x"`."""
    changes = differences(published.published_as, publication_settings(job))
    return [f"output.{change}" for change in changes]


def _mode_text(mode: int) -> str:
    return f"{mode:04o}"


def job_issue(folder: RunFolder, expected: str | None) -> IntegrityIssue | None:
    """Whether job.yaml has another sha256 than its record; None if there is no record."""
    name = folder.job.name
    if expected is None:
        return None
    if kind := irregular(folder.job):
        return IntegrityIssue(name, f"is {kind}; expected a file")
    if not exists(folder.job):
        return IntegrityIssue(name, "is missing")
    with read_errors(folder.job):
        found = sha256(folder.job)
    return None if found == expected else IntegrityIssue(name, "was edited or damaged")


def check_no_pending_release(folder: RunFolder) -> None:
    """Raise if some published files were replaced and others not yet."""
    check_regular(folder.release)
    if exists(folder.release):
        raise StateError(
            f"publishing of {folder.path} was interrupted",
            hint="Repeat the same `batchgen run` or `batchgen score` to finish it.",
        )


def responses_in(folder: RunFolder) -> ParquetTable:
    """The responses in a folder without a manifest: staged ones, or those that `score` wrote for a file."""
    single = exists(folder.responses)
    parts = list_folder(folder.response_parts, ".parquet")
    return ParquetTable([folder.responses] if single else parts)


def require_responses(folder: RunFolder) -> ParquetTable:
    """The same; StateError if there are none."""
    responses = responses_in(folder)
    if not responses.paths:
        raise StateError(
            f"{folder.responses} is missing", hint="Start over with `batchgen run --fresh`."
        )
    return responses


def written_prefix(responses: ParquetTable) -> str:
    """The `output.prefix` of the job that wrote the responses, from their metadata."""
    return str(file_metadata_of(responses.schema)["settings"]["output"]["prefix"])
