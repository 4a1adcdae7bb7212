"""`--incremental-from RUN`: answers of an earlier run, for rows that ask the same thing again.

    RUN ──verify──> good answers by (row fingerprint, sample) ──> OpenPart.restore; the rest goes to the engine

A row's fingerprint holds its id, its prompt and all settings that decide its answer, so it does not matter where a row
stands. `incremental.json` keeps in the private folder which run that was, for the next start. A reused answer
keeps everything it had, the id of the run that generated it included. Knows nothing of engines or parts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from batchgen.errors import BatchgenError, UsageError
from batchgen.fingerprint import differences
from batchgen.output.published_run import PublishedRun, read_manifest
from batchgen.output.schema import OutputLayout
from batchgen.records import Failure, Response
from batchgen.run.requests import PendingRow
from batchgen.run.setup import Setup, row_settings
from batchgen.state.run_folder import RunFolder, read_json

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ReuseCounts:
    """How a run made use of an earlier one, in output rows.

    Attributes:
        run_id: the earlier run.
        generated: rows of this run that are not from earlier ones, failed and skipped ones included.
        dropped: rows of the earlier run whose id and sample this run does not have.
    """

    run_id: str
    reused: int
    generated: int
    dropped: int


class AnswerSource(Protocol):
    """Where answers may come from, besides the engine."""

    def answers(self, asked: Sequence[PendingRow]) -> Sequence[Response]:
        """The answers to these rows that are there already, in any order."""

    def count(self, parts: Sequence[Path], run_id: str, prefix: str) -> ReuseCounts | None:
        """What became of both runs' rows, once all of this run's are in `parts`; None if there is no earlier run."""


class NoReuse:
    """For a run that stands alone."""

    def answers(self, asked: Sequence[PendingRow]) -> Sequence[Response]:
        """None."""
        del asked
        return ()

    def count(self, parts: Sequence[Path], run_id: str, prefix: str) -> ReuseCounts | None:
        """Nothing to count."""
        del parts, run_id, prefix
        return None


class EarlierRun:
    """The answers of a complete run."""

    def __init__(self, folder: RunFolder) -> None:
        """Check the run's files and index its answers.

        Raises:
            StateError: a file is damaged.
            UsageError: there is no complete run.
        """
        if not folder.complete:
            raise UsageError(
                f"--incremental-from {folder.path}: there is no complete run",
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

    def answers(self, asked: Sequence[PendingRow]) -> Sequence[Response]:
        """See `AnswerSource`."""
        rows = {one.row_fingerprint: one for one in asked if not isinstance(one.settings, Failure)}
        fingerprint = pl.col("row_fingerprint")
        good = self._rows.filter(pl.col("good") & fingerprint.is_in(list(rows)))
        found = []
        for answer in self._layout.responses(
            self._run.responses.take(good["row"].to_list()), first=0, samples=1
        ):
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
    asked: Path | None,
    *,
    setup: Setup,
    run_id: str,
    say: Callable[[str], None],
) -> AnswerSource:
    """What a run may take over from an earlier one, which is noted for the next start of the same run.

    Args:
        folder: the run's folder.
        asked: the earlier run's folder, if this start names one.
        setup: what the run asks.
        run_id: the run; a note of another one does not count.
        say: told what is reused, or why nothing is.

    Raises:
        StateError: the earlier run that is named is damaged.
        UsageError: it is not complete, is this very run, or not the one that an earlier start named.
    """
    note = folder.private / "incremental.json"
    noted = read_json(note) if note.exists() else {}
    known = noted if noted.get("for") == run_id else None
    if asked is None:
        return _known(known, setup, say) if known else NoReuse()
    if asked.absolute() == folder.path and _published_run(folder) in (run_id, None):
        raise UsageError(
            f"--incremental-from {asked} is the folder that this run writes to",
            hint="With --fresh as well, the old run is moved aside first and its answers are reused.",
        )
    earlier = EarlierRun(RunFolder(asked.absolute()))
    if known and known["run_id"] != earlier.run_id:
        raise UsageError(
            f"{folder.path} reuses answers of the run {known['run_id']} already, not of {earlier.run_id}",
            hint="Leave --incremental-from out to go on, or start over with --fresh.",
        )
    content = {"for": run_id, "folder": str(asked.absolute()), "run_id": earlier.run_id}
    folder.write_json(note, content, stage="incremental")
    _tell(earlier, asked, setup, say)
    return earlier


def _published_run(folder: RunFolder) -> str | None:
    """Whose answers are published: with `publish: gated`, those of an earlier run stay until better ones are there."""
    return read_manifest(folder).run_id if folder.manifest.exists() else None


def _known(known: Mapping[str, Any], setup: Setup, say: Callable[[str], None]) -> AnswerSource:
    place = Path(known["folder"])
    try:
        earlier = EarlierRun(RunFolder(place))
    except BatchgenError as error:
        say(f"nothing more is reused, all other rows are generated: {error.message}")
        return NoReuse()
    if earlier.run_id != known["run_id"]:
        say(f"nothing more is reused, all other rows are generated: {place} holds another run now")
        return NoReuse()
    _tell(earlier, place, setup, say)
    return earlier


def _tell(earlier: EarlierRun, place: Path, setup: Setup, say: Callable[[str], None]) -> None:
    changed = differences(row_settings(earlier.settings), row_settings(setup.settings))
    if changed:
        listed = "; ".join(str(difference) for difference in changed[:_SHOWN])
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        say(f"no answer of {place} fits, all rows are generated: {listed}{more}")
    else:
        say(f"reusing answers of {place} (run {earlier.run_id}) for rows that are the same")
