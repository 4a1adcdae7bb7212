"""Where answers wait for their part to be sealed, so that a kill costs only rows in flight.

A file of SQLite in the private folder (`sqlite_journal.py`); nothing at all on filesystems where that is not safe.
Knows nothing of parts, engines or of what is asked.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from batchgen.errors import DeathError
from batchgen.progress import Reporter
from batchgen.records import Response
from batchgen.state.run_folder import RunFolder
from batchgen.state.sqlite_journal import JournalRecovery, SqliteJournal
from batchgen.storage.filesystems import MOUNTS, filesystem_of


class Journal(Protocol):
    """Where answers wait for their part to be sealed."""

    def answers(self, first: int, stop: int) -> Sequence[Response]:
        """The answers of rows [first, stop) that are in, in any order."""

    def deaths(self) -> Mapping[int, int]:
        """How often the process died while a row, not answered yet, was in flight."""

    def set_deaths(self, deaths: Mapping[int, int]) -> None:
        """Note how often the process died with these rows in flight."""

    def mark(self, rows: Iterable[int]) -> None:
        """These rows go to the engine now. On the disk when this returns."""

    def unmark(self) -> None:
        """No row is with the engine."""

    def keep(self, response: Response) -> None:
        """Keep an answer. On the disk after `SECONDS_BETWEEN_COMMITS`, or `flush`."""

    def flush(self) -> None:
        """Put everything kept so far on the disk."""

    def forget(self, first: int, stop: int) -> None:
        """Delete everything about rows [first, stop): their part is sealed."""

    def forget_failed(self) -> int:
        """Delete the answers that are failures, so that they are asked for again. Returns how many they were."""


class NoJournal:
    """For filesystems where a journal is not safe: parts alone are saved."""

    def answers(self, first: int, stop: int) -> Sequence[Response]:
        """None."""
        del first, stop
        return ()

    def deaths(self) -> Mapping[int, int]:
        """None are known."""
        return {}

    def set_deaths(self, deaths: Mapping[int, int]) -> None:
        """Not noted."""

    def mark(self, rows: Iterable[int]) -> None:
        """Not noted."""

    def unmark(self) -> None:
        """Not noted."""

    def keep(self, response: Response) -> None:
        """Not kept."""

    def flush(self) -> None:
        """Nothing waits."""

    def forget(self, first: int, stop: int) -> None:
        """Nothing is there."""

    def forget_failed(self) -> int:
        """Nothing is there."""
        return 0


@contextmanager
def journal_of(
    folder: RunFolder,
    *,
    run_id: str,
    samples: int,
    reporter: Reporter,
    mounts: Path = MOUNTS,
) -> Iterator[Journal]:
    """The journal of a run, open while the block runs.

    Args:
        folder: the run's folder.
        run_id: answers of other runs are not taken.
        samples: answers per row.
        reporter: receives messages.
        mounts: where the system says what is mounted.

    A `DeathError` out of the block counts as the death of this process.

    Raises:
        ResourceError: the disk refused.
    """
    filesystem = filesystem_of(folder.private, mounts)
    if filesystem.shared:
        reporter.info(
            f"{folder.path} is on {filesystem.type}, where a journal of single rows is not safe: a kill costs the "
            "parts in flight. Smaller ones cost less: batching.part_rows"
        )
        yield NoJournal()
        return
    journal = SqliteJournal(folder.journal, run_id=run_id, samples=samples)
    try:
        for sentence in _sentences(journal.findings):
            reporter.info(sentence)
        yield journal
    except DeathError:
        journal.note_death()
        raise
    finally:
        journal.close()


def _sentences(found: JournalRecovery) -> Iterator[str]:
    if found.set_aside is not None:
        yield f"the journal was damaged and is now {found.set_aside}: rows that only it held are answered again"
    if found.dropped:
        yield f"{found.dropped:,} records of the journal were damaged: these rows are answered again"
