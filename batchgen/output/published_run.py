"""The published files of a complete run, for every command that reads one.

    manifest.json                                   Manifest: run id, settings, counts; name, size and sha256 of each file
    responses.parquet, or responses/*.parquet       ParquetTable: row groups, one at a time

A file is checked against the manifest before it is read.
"""

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import polars as pl
import pyarrow as pa

from batchgen.errors import StateError
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.unfinished_run import why_unfinished
from batchgen.state.parts import Counts
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.durable import sha256

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
    if not folder.manifest.exists():
        why = why_unfinished(folder)
        raise StateError(why.problem, hint=why.hint)
    content = read_json(folder.manifest)
    try:
        names = ("run_id", "fingerprint", "settings", "samples", "evaluation")
        files = tuple(PublishedFile(**file) for file in content["files"])
        same = {name: content[name] for name in names}
        return Manifest(content, files=files, counts=Counts(**content["counts"]), **same)
    except (KeyError, TypeError) as error:
        raise StateError(
            f"{folder.manifest} is damaged: {error}",
            hint="Start over with --fresh: the old run is moved aside, not deleted.",
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
            if not path.is_file():
                yield IntegrityIssue(file.name, "is missing")
            elif (size := path.stat().st_size) != file.bytes:
                yield IntegrityIssue(file.name, f"has {size:,} bytes, expected {file.bytes:,}")
            elif hashes and (found := sha256(path)) != file.sha256:
                yield IntegrityIssue(file.name, f"has sha256 {found}, expected {file.sha256}")

    def check(self, *, hashes: bool = True, only_responses: bool = False) -> None:
        """Raise if a published file differs from the manifest; see `issues`."""
        check_no_pending_release(self.folder)
        for issue in self.issues(hashes=hashes, only_responses=only_responses):
            path = self.folder.path / issue.file
            hint = "Start over with --fresh: the old run is moved aside, not deleted."
            if path in (self.folder.scores, self.folder.metrics):
                hint = f"Make it again: batchgen score {self.folder.path}"
            raise StateError(
                f"{path} was changed or damaged after it was published: it {issue.problem}",
                hint=hint,
            )


def check_no_pending_release(folder: RunFolder) -> None:
    """Raise if some published files were replaced and others not yet."""
    if folder.release.exists():
        raise StateError(
            f"publishing of {folder.path} was interrupted",
            hint="Repeat the same `batchgen run` or `batchgen score` to finish it.",
        )


def responses_in(folder: RunFolder) -> ParquetTable:
    """The responses in a folder without a manifest: staged ones, or those that `score` wrote for a file."""
    single = folder.responses.exists()
    parts = sorted(folder.response_parts.glob("*.parquet"))
    return ParquetTable([folder.responses] if single else parts)
