"""`--incremental-from RUN`: reuse responses of an earlier run for unchanged rows.

    RUN ──check──> good responses by (row fingerprint, sample) ──> OpenPart.restore; the other rows go to the engine

A row's fingerprint covers its id, its prompt and all settings that decide its response; its position does not matter.
`incremental.json` in the private folder records the earlier run for the next start. A reused response keeps all its
columns, including the id of the run that generated it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from batchgen.errors import BatchgenError, StateError, UsageError
from batchgen.fingerprint import differences
from batchgen.output.published_run import PublishedRun, read_manifest
from batchgen.output.schema import OutputLayout
from batchgen.progress import Reporter
from batchgen.records import Failure, Response
from batchgen.run.requests import PendingRow
from batchgen.run.setup import Setup
from batchgen.state.identity import row_settings
from batchgen.state.run_folder import RunFolder, read_json

_SHOWN = 3


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


class EarlierRun:
    """The responses of a complete run."""

    def __init__(self, folder: RunFolder) -> None:
        """Check the run's files and index its responses.

        Raises:
            StateError: a file is damaged.
            UsageError: it is not the folder of a complete run.
        """
        if not folder.complete:
            raise UsageError(
                f"--incremental-from {folder.path}: not the folder of a complete run",
                hint="Give the output folder of a complete run.",
            )
        self._run = PublishedRun(folder)
        self._run.check()
        self.run_id = self._run.manifest.run_id
        self.settings = self._run.manifest.settings
        self._layout = OutputLayout((), self._run.manifest.prefix)
        rows = self._run.index(["id", "sample", "row_fingerprint", "finish_reason"])
        good = pl.col("finish_reason").is_in(["stop", "length", "stop_string"])
        self._rows = rows.with_columns(good.alias("good")).drop("finish_reason")

    def responses(self, pending: Sequence[PendingRow]) -> list[Response]:
        """The existing responses to these rows, in any order."""
        rows = {r.row_fingerprint: r for r in pending if not isinstance(r.decoding, Failure)}
        fits = pl.col("good") & pl.col("row_fingerprint").is_in(list(rows))
        wanted = self._rows.filter(fits)["row"].to_list()
        table = self._run.responses.take(wanted, self._layout.names)
        reusable = self._layout.responses(table, first=0, samples=1)
        matched = [(response, rows[response.row_fingerprint]) for response in reusable]
        return [replace(r, index=row.index, messages=row.messages) for r, row in matched]

    def count_reused(self, parts: Sequence[Path], run_id: str, prefix: str) -> ReuseCounts:
        """Compare this run's rows, all in `parts`, with the earlier run's."""
        names = {prefix + name: name for name in ("id", "sample", "run_id")}
        now = pl.scan_parquet([*parts]).select(pl.col(old).alias(new) for old, new in names.items())
        rows = now.collect()
        reused = rows.filter(pl.col("run_id") != run_id).height
        dropped = self._rows.join(rows, on=("id", "sample"), how="anti").height
        return ReuseCounts(self.run_id, reused, rows.height - reused, dropped)


def open_reuse(
    folder: RunFolder, named: Path | None, *, setup: Setup, run_id: str, reporter: Reporter
) -> EarlierRun | None:
    """Open the earlier run, named here or by an earlier start, and record it for the next start of this run.

    Raises:
        StateError: the named run is damaged.
        UsageError: the named run is not complete, is this run, or is not the one that an earlier start named.
    """
    note = folder.private / "incremental.json"
    noted = read_json(note) if note.exists() else {}
    recorded = noted if noted.get("for") == run_id else None
    if named is None:
        return _open_recorded(recorded, setup, reporter) if recorded else None
    # With `publish: gated`, an earlier run stays published until a new one passes.
    published = read_manifest(folder).run_id if folder.manifest.exists() else run_id
    if named.absolute() == folder.path and published == run_id:
        raise UsageError(
            f"--incremental-from {named} is the folder that this run writes to",
            hint="Add --fresh: the old run is moved aside first, and its answers are reused.",
        )
    earlier = EarlierRun(RunFolder(named.absolute()))
    if recorded and recorded["run_id"] != earlier.run_id:
        raise UsageError(
            f"{folder.path} already reuses answers of the run {recorded['run_id']}, not of {earlier.run_id}",
            hint="Omit --incremental-from to resume, or start over with --fresh.",
        )
    content = {"for": run_id, "folder": str(named.absolute()), "run_id": earlier.run_id}
    folder.write_json(note, content, stage="incremental")
    _announce(earlier, named, setup, reporter)
    return earlier


def _open_recorded(
    recorded: Mapping[str, Any], setup: Setup, reporter: Reporter
) -> EarlierRun | None:
    path = Path(recorded["folder"])
    try:
        earlier = EarlierRun(RunFolder(path))
        if earlier.run_id != recorded["run_id"]:
            raise StateError(f"{path} contains another run now")
    except BatchgenError as error:
        reporter.info(f"nothing more is reused, all other rows are generated: {error.message}")
        return None
    _announce(earlier, path, setup, reporter)
    return earlier


def _announce(earlier: EarlierRun, path: Path, setup: Setup, reporter: Reporter) -> None:
    changed = differences(row_settings(earlier.settings), row_settings(setup.settings))
    if changed:
        listed = "; ".join(str(difference) for difference in changed[:_SHOWN])
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        reporter.info(f"no answer of {path} fits, all rows are generated: {listed}{more}")
    else:
        reporter.info(f"reusing answers of {path} (run {earlier.run_id}) for unchanged rows")
