"""`--incremental-from RUN`: reuse responses of an earlier run for rows that are the same.

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

from batchgen.errors import BatchgenError, UsageError
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


class AnswerSource:
    """Responses that exist already. This base class is a run without an earlier one: there are none."""

    def answers(self, pending: Sequence[PendingRow]) -> Sequence[Response]:
        """The existing responses to these rows, in any order."""
        del pending
        return ()

    def count(self, parts: Sequence[Path], run_id: str, prefix: str) -> ReuseCounts | None:
        """Compare this run's rows, all in `parts`, with the earlier run's; None if there is no earlier run."""
        del parts, run_id, prefix
        return None


class EarlierRun(AnswerSource):
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

    def answers(self, pending: Sequence[PendingRow]) -> Sequence[Response]:
        """See `AnswerSource`."""
        rows = {
            one.row_fingerprint: one for one in pending if not isinstance(one.settings, Failure)
        }
        fingerprint = pl.col("row_fingerprint")
        good = self._rows.filter(pl.col("good") & fingerprint.is_in(list(rows)))
        table = self._run.responses.take(good["row"].to_list(), self._layout.names)
        found = []
        for answer in self._layout.responses(table, first=0, samples=1):
            row = rows[answer.row_fingerprint]
            found.append(replace(answer, index=row.index, messages=row.messages))
        return found

    def count(self, parts: Sequence[Path], run_id: str, prefix: str) -> ReuseCounts | None:
        """See `AnswerSource`."""
        names = {prefix + name: name for name in ("id", "sample", "run_id")}
        now = pl.scan_parquet([*parts]).select(pl.col(old).alias(new) for old, new in names.items())
        rows = now.collect()
        reused = rows.filter(pl.col("run_id") != run_id).height
        dropped = self._rows.join(rows, on=("id", "sample"), how="anti").height
        return ReuseCounts(self.run_id, reused, rows.height - reused, dropped)


def open_reuse(
    folder: RunFolder,
    named: Path | None,
    *,
    setup: Setup,
    run_id: str,
    reporter: Reporter,
) -> AnswerSource:
    """Open the earlier run, given here or by an earlier start, and record it for the next start of this run.

    Raises:
        StateError: the named run is damaged.
        UsageError: the named run is not complete, is this run, or is not the one that an earlier start named.
    """
    note = folder.private / "incremental.json"
    noted = read_json(note) if note.exists() else {}
    known = noted if noted.get("for") == run_id else None
    if named is None:
        return _known(known, setup, reporter) if known else AnswerSource()
    if named.absolute() == folder.path and _published_run(folder) in (run_id, None):
        raise UsageError(
            f"--incremental-from {named} is the folder that this run writes to",
            hint="Add --fresh: the old run is moved aside first, and its answers are reused.",
        )
    earlier = EarlierRun(RunFolder(named.absolute()))
    if known and known["run_id"] != earlier.run_id:
        raise UsageError(
            f"{folder.path} already reuses answers of the run {known['run_id']}, not of {earlier.run_id}",
            hint="Omit --incremental-from to resume, or start over with --fresh.",
        )
    content = {"for": run_id, "folder": str(named.absolute()), "run_id": earlier.run_id}
    folder.write_json(note, content, stage="incremental")
    _announce(earlier, named, setup, reporter)
    return earlier


def _published_run(folder: RunFolder) -> str | None:
    """The id of the published run: with `publish: gated`, an earlier run stays published until a new one passes."""
    return read_manifest(folder).run_id if folder.manifest.exists() else None


def _known(known: Mapping[str, Any], setup: Setup, reporter: Reporter) -> AnswerSource:
    path = Path(known["folder"])
    try:
        earlier = EarlierRun(RunFolder(path))
    except BatchgenError as error:
        reporter.info(f"nothing more is reused, all other rows are generated: {error.message}")
        return AnswerSource()
    if earlier.run_id != known["run_id"]:
        reporter.info(
            f"nothing more is reused, all other rows are generated: {path} contains another run now"
        )
        return AnswerSource()
    _announce(earlier, path, setup, reporter)
    return earlier


def _announce(earlier: EarlierRun, path: Path, setup: Setup, reporter: Reporter) -> None:
    changed = differences(row_settings(earlier.settings), row_settings(setup.settings))
    if changed:
        listed = "; ".join(str(difference) for difference in changed[:_SHOWN])
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        reporter.info(f"no answer of {path} fits, all rows are generated: {listed}{more}")
    else:
        reporter.info(
            f"reusing answers of {path} (run {earlier.run_id}) for rows that are the same"
        )
