"""`--incremental-from RUN` or `latest`: reuse responses of an earlier run for unchanged rows.

    RUN ──check──> IdIndex ──same id, settings and cells──> UnchangedRows: neither rendered nor tokenized
                           ──same row fingerprint─────────> OpenPart.restore; the other rows go to the engine

A row's fingerprint covers its id, its prompt and all settings that decide its response; its position does not matter. Where
the published cells prove that the prompt is the same, it is not rendered for its fingerprint.
`incremental.json` in the private folder records the earlier run for the next start. A reused response keeps all its
columns, including the id of the run that generated it.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchgen.arrow.same_cells import is_comparable, same_cells
from batchgen.errors import BatchgenError, StateError, UsageError
from batchgen.fingerprint import differences
from batchgen.input.sources import Chunk
from batchgen.output.id_index import KEY, count_missing, index_ids
from batchgen.output.published_run import PublishedRun, read_manifest
from batchgen.output.schema import OutputLayout, UnchangedRows
from batchgen.output.unfinished_run import check_manifest_exists, check_not_running
from batchgen.progress import Reporter
from batchgen.records import Failure, Response
from batchgen.run.requests import PendingRow
from batchgen.run.setup import Setup
from batchgen.state.column_settings import settings_as_computed
from batchgen.state.identity import (
    row_settings,
    row_settings_fingerprint,
)
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.entries import check_regular, exists, is_folder, list_folder

LATEST = Path("latest")
"""The word in place of a path. A folder of that name is given by its absolute path."""

_SHOWN = 3
_GOOD = ("stop", "length", "stop_string")
"""Finish reasons of the responses that are reused."""


@dataclass(frozen=True, slots=True)
class ReuseCounts:
    """What a run took from an earlier one, in output rows.

    Attributes:
        run_id: of the earlier run.
        generated: rows that are not from earlier runs, including failed and skipped ones.
        dropped: rows of the earlier run whose id and sample this run lacks.
    """

    run_id: str
    reused: int
    generated: int
    dropped: int


def check_complete(folder: RunFolder) -> None:
    """Check an earlier run.

    Raises:
        LockedError: it is running.
        StateError: it lost its manifest.
        UsageError: it is not complete, or does not exist.
    """
    check_manifest_exists(folder)
    if not folder.complete:
        check_not_running(folder)
        raise UsageError(
            f"--incremental-from {folder.path}: not the folder of a complete run",
            hint="Give the output folder of a complete run.",
        )


class EarlierRun:
    """The responses of a complete run, for a run with a setup of its own."""

    def __init__(self, folder: RunFolder, setup: Setup) -> None:
        """Check the run's files and index its responses.

        Raises:
            StateError: a file is damaged.
            UsageError: it is not the folder of a complete run.
        """
        check_complete(folder)
        self._run = PublishedRun(folder)
        self._run.check()
        self.run_id = self._run.manifest.run_id
        manifest = self._run.manifest
        # Earlier versions recorded auto; on a CPU it was float32.
        engine = {**({"dtype": "float32"} if setup.dtype else {}), **manifest.content["engine"]}
        self.settings = settings_as_computed(manifest.settings, engine)
        now = setup.settings_as_computed
        self._same_dtype = self.settings["model"].get("dtype") == now["model"]["dtype"]
        self._layout = OutputLayout.written(self._run.schema, self._run.manifest.prefix)
        self._index = index_ids(self._run, _GOOD)
        self._samples = setup.samples
        self._stores_prompt = setup.job.output.store_prompt
        self._compared = _columns_to_compare(self._run, setup) if self._same_dtype else None

    def unchanged_rows(self, chunk: Chunk, skip: Collection[int] = ()) -> UnchangedRows | None:
        """The rows of a chunk with the same id and cells as before and all their responses; None if there is none.

        That proves the same row fingerprint, since everything else that decides it is in the settings.

        Args:
            chunk: of this run's input.
            skip: indices of rows to leave out; rows that cannot be read are left out too.
        """
        if self._compared is None:
            return None
        positions, rows = self._index.find(chunk.ids)
        excluded = {*skip, *chunk.failures}
        if excluded:
            kept = ~np.isin(positions + chunk.first, list(excluded))
            positions, rows = positions[kept], rows[kept]
        if not len(rows):
            return None
        table = self._run.responses.take(rows.tolist(), [*self._compared, *self._layout.names])
        at = pa.array(positions)
        ids = pa.chunked_array([pa.array(chunk.ids, pa.string()).take(at)])
        same = same_cells(table.column(f"{self._layout.prefix}id").cast(pa.string()), ids)
        for name in self._compared:
            same &= same_cells(table.column(name), chunk.table.column(name).take(at))
        answered = np.bincount(positions[same], minlength=len(chunk.ids))
        same &= answered[positions] == self._samples
        if not same.any():
            return None
        table = table if same.all() else table.filter(pa.array(same))
        answers = self._layout.answers(table)
        if not self._stores_prompt:
            at = answers.column_names.index("messages")
            nulls = pa.nulls(answers.num_rows, answers.schema.field(at).type)
            answers = answers.set_column(at, answers.schema.field(at), nulls)
        return UnchangedRows(positions[same], answers)

    def responses(self, pending: Sequence[PendingRow]) -> list[Response]:
        """The existing responses to these rows, in any order."""
        rows = {r.row_fingerprint: r for r in pending if not isinstance(r.decoding, Failure)}
        table = self._run.responses.take(self._matching(rows.values()).tolist(), self._layout.names)
        reusable = self._layout.responses(table, first=0, samples=1)
        matched = [(response, rows[response.row_fingerprint]) for response in reusable]
        return [replace(r, index=row.index, messages=row.messages) for r, row in matched]

    def count_matching(self, pending: Sequence[PendingRow]) -> int:
        """The number of responses to these rows, of all samples."""
        return len(self._matching([r for r in pending if not isinstance(r.decoding, Failure)]))

    def count_reused(self, parts: Sequence[Path], run_id: str, prefix: str) -> ReuseCounts:
        """Compare this run's rows, all in `parts`, with the earlier run's."""
        run_ids = (_read_columns(path, prefix, ["run_id"]).column(0) for path in parts)
        old = [pc.sum(pc.not_equal(column, run_id)).as_py() or 0 for column in run_ids]
        keys = (_read_columns(path, prefix, KEY) for path in parts)
        dropped = count_missing(self._run, keys)
        rows = sum(pq.read_metadata(path).num_rows for path in parts)
        return ReuseCounts(self.run_id, sum(old), rows - sum(old), dropped)

    def _matching(self, pending: Collection[PendingRow]) -> npt.NDArray[np.int64]:
        """The numbers of the responses with the fingerprint of one of these rows."""
        _, rows = self._index.find([row.id for row in pending if self._same_dtype])
        rows = np.unique(rows)
        name = f"{self._layout.prefix}row_fingerprint"
        found = self._run.responses.take(rows.tolist(), [name]).column(0)
        prints = pa.array([row.row_fingerprint for row in pending], pa.string())
        matching: npt.NDArray[np.int64] = rows[pc.is_in(found, prints).to_numpy()]
        return matching


def _read_columns(path: Path, prefix: str, names: Sequence[str]) -> pa.Table:
    table = pq.read_table(path, columns=[prefix + name for name in names], partitioning=None)
    return table.rename_columns(list(names))


def _columns_to_compare(run: PublishedRun, setup: Setup) -> tuple[str, ...] | None:
    """The columns that decide a row's prompt and overrides, if the earlier run published them exactly; else None.

    None as well where the settings differ, or the earlier run stored no prompts and this one does.
    """
    recorded, builder, output = run.manifest.settings, setup.request_builder, setup.job.output
    inexact = run.manifest.content.get("inexact_columns")  # none before it was recorded
    if (
        inexact is None
        or row_settings_fingerprint(recorded) != builder.row_settings_fingerprint
        or recorded["input"].get("columns") != setup.settings["input"].get("columns")
        or (output.store_prompt and not recorded["output"]["store_prompt"])
    ):
        return None
    answers = {*OutputLayout.written(run.schema, run.manifest.prefix).names}
    published, now = run.schema, setup.survey.schema
    id_column = setup.checked_input.source.id_column
    compared = []
    for name in builder.columns:
        type_ = now.field(name).type
        if name in {*inexact, *setup.survey.inexact} or not is_comparable(type_):
            return None
        if name == id_column and pa.types.is_string(type_):
            continue  # the cell is the id
        if name in answers or name not in published.names or published.field(name).type != type_:
            return None
        compared.append(name)
    return tuple(compared)


def open_reuse(
    folder: RunFolder, named: Path | None, *, setup: Setup, run_id: str, reporter: Reporter
) -> EarlierRun | None:
    """Open the earlier run, named here or by an earlier start, and record it for the next start of this run.

    `latest` is what `find_latest` finds; where there is none, all rows are generated, which is reported.

    Raises:
        StateError: the named run is damaged.
        UsageError: the named run is not complete, is this run, or is not the one that an earlier start named.
    """
    note = folder.incremental
    check_regular(note)
    noted = read_json(note) if exists(note) else {}
    recorded = noted if noted.get("for") == run_id else None
    if named is None or (named == LATEST and recorded):
        return _open_recorded(folder, recorded, setup, reporter) if recorded else None
    if named == LATEST:
        named = find_latest(setup, run_id, reporter)
        if named is None:
            return None
    # With --fresh, the old run stays published until the new one is.
    published = read_manifest(folder).run_id if exists(folder.manifest) else run_id
    if named.absolute() == folder.path and published == run_id:
        raise UsageError(
            f"--incremental-from {named} is the folder that this run writes to",
            hint="Add --fresh: a new run reuses the answers of the old one.",
        )
    earlier = EarlierRun(RunFolder(named.absolute()), setup)
    if recorded and recorded["run_id"] != earlier.run_id:
        raise UsageError(
            f"{folder.path} already reuses answers of the run {recorded['run_id']}, not of {earlier.run_id}",
            hint="Omit --incremental-from to resume, or start over with --fresh.",
        )
    content = {"for": run_id, "folder": _path_from(folder, named), "run_id": earlier.run_id}
    folder.write_json(note, content, stage="incremental")
    _announce(earlier, named, setup, reporter)
    return earlier


def find_latest(setup: Setup, run_id: str, reporter: Reporter) -> Path | None:
    """The newest published run of the same job, by name, in the folders next to the output folder and in itself.

    A run of another `input.limit` is left out, so that a trial with `-n` is not the latest. The run `run_id` is left out.
    """
    output = Path(setup.job.output.path)
    found: dict[Path, tuple[str, int]] = {}
    for path in list_folder(output.parent):
        folder = RunFolder(path)
        if not is_folder(path) or not folder.complete:
            continue
        try:
            manifest = read_manifest(folder)
        except StateError as error:
            reporter.info(f"--incremental-from latest: {path} is left out: {error.message}")
            continue
        limit = manifest.settings.get("input", {}).get("limit")
        same = manifest.content.get("job") == setup.job.name and limit == setup.job.input.limit
        if same and manifest.run_id != run_id:
            # The time is in seconds.
            found[path] = (
                str(manifest.content.get("finished_at")),
                folder.manifest.stat().st_mtime_ns,
            )
    if not found:
        where = f"no published run of job {setup.job.name} in {output.parent}"
        reporter.info(f"--incremental-from latest: {where}; all rows are generated")
        return None
    return max(found, key=lambda path: found[path])


def _path_from(folder: RunFolder, named: Path) -> str:
    """The path of the earlier run relative to the folder of this one, so that both may be moved together."""
    return Path(os.path.relpath(named.absolute(), folder.path)).as_posix()


def _open_recorded(
    folder: RunFolder, recorded: Mapping[str, Any], setup: Setup, reporter: Reporter
) -> EarlierRun | None:
    path = Path(os.path.normpath(folder.path / recorded["folder"]))
    try:
        earlier = EarlierRun(RunFolder(path), setup)
        if earlier.run_id != recorded["run_id"]:
            raise StateError(f"{path} contains another run now")
    except BatchgenError as error:
        reporter.info(f"nothing more is reused, all other rows are generated: {error.message}")
        return None
    _announce(earlier, path, setup, reporter)
    return earlier


def _announce(earlier: EarlierRun, path: Path, setup: Setup, reporter: Reporter) -> None:
    changed = differences(row_settings(earlier.settings), row_settings(setup.settings_as_computed))
    if changed:
        listed = "; ".join(str(difference) for difference in changed[:_SHOWN])
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        reporter.info(f"no answer of {path} fits, all rows are generated: {listed}{more}")
    else:
        reporter.info(f"reusing answers of {path} (run {earlier.run_id}) for unchanged rows")
