"""Journal of answers whose part is not sealed yet: a killed process loses only the rows in flight.

The journal is a SQLite file (`sqlite_journal.py`). On filesystems where SQLite is not safe there is no journal.
"""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Protocol

from batchgen.errors import DeathError
from batchgen.progress import Reporter
from batchgen.records import Response
from batchgen.state.identity import Identity
from batchgen.state.parts import Counts, SealedPart, count_responses
from batchgen.state.run_folder import RunFolder
from batchgen.state.sqlite_journal import SqliteJournal
from batchgen.storage.filesystems import MOUNTS, filesystem_of


class Journal(Protocol):
    """Answers, rows in flight and crash counts of one run. Every method may raise ResourceError."""

    def answers(self, first: int, stop: int) -> Sequence[Response]:
        """The saved answers of rows [first, stop), in any order."""

    def deaths(self) -> Mapping[int, int]:
        """How often in a row the process crashed while a row was in flight, for rows without an answer."""

    def set_deaths(self, deaths: Mapping[int, int]) -> None: ...

    def mark(self, rows: Iterable[int]) -> None:
        """Record that rows are in flight. On disk when this returns."""

    def unmark(self) -> None:
        """Record that no row is in flight."""

    def save(self, response: Response) -> None:
        """Save an answer. On disk after `SECONDS_BETWEEN_COMMITS`, or after `flush`."""

    def flush(self) -> None:
        """Write all saved answers to disk."""

    def delete(self, first: int, stop: int) -> None:
        """Delete all records of rows [first, stop)."""

    def delete_failed(self) -> int:
        """Delete the failed answers and return their number."""


class NoJournal:
    """Saves nothing: for filesystems where a SQLite journal is not safe."""

    def answers(self, first: int, stop: int) -> Sequence[Response]:
        del first, stop
        return ()

    def deaths(self) -> Mapping[int, int]:
        return {}

    def set_deaths(self, deaths: Mapping[int, int]) -> None: ...

    def mark(self, rows: Iterable[int]) -> None: ...

    def unmark(self) -> None: ...

    def save(self, response: Response) -> None: ...

    def flush(self) -> None: ...

    def delete(self, first: int, stop: int) -> None: ...

    def delete_failed(self) -> int:
        return 0


@contextmanager
def open_journal(
    folder: RunFolder,
    *,
    run_id: str,
    samples: int,
    reporter: Reporter,
    mounts: Path = MOUNTS,
    path: Path | None = None,
) -> Iterator[Journal]:
    """Open the journal of a run for the block. A `DeathError` from the block counts as a crash of this process.

    Args:
        folder: the run's folder.
        run_id: records of other runs are ignored.
        samples: answers per row.
        reporter: receives warnings.
        mounts: the mount table of the system.
        path: of the file; None for that in the run's folder.

    Raises:
        ResourceError: the disk is full or failed.
    """
    path = path or folder.journal
    filesystem = filesystem_of(path.parent, mounts)
    if filesystem.shared:
        reporter.info(
            f"row-level journaling is unsafe on {filesystem.type} ({path.parent}): a crash loses the open parts. "
            "Lower batching.part_rows to lose less."
        )
        yield NoJournal()
        return
    journal = SqliteJournal(path, run_id=run_id, samples=samples)
    try:
        recovery = journal.recovery
        if recovery.set_aside is not None:
            reporter.info(
                f"the journal was damaged and moved to {recovery.set_aside}: "
                "rows saved only in it are generated again"
            )
        if recovery.dropped:
            reporter.info(
                f"{recovery.dropped:,} records of the journal were damaged: their rows are generated again"
            )
        yield journal
    except DeathError:
        journal.note_death()
        raise
    finally:
        journal.close()


def delete_sealed(journal: Journal, identity: Identity, sealed: Container[int]) -> None:
    """Delete the records of sealed parts: a process that died between sealing and deleting leaves them.

    Args:
        journal: of the run.
        identity: of the run.
        sealed: numbers of parts.
    """
    size = identity.part_rows
    answered = (response.index for response in journal.answers(0, identity.stop))
    for number in {row // size for row in chain(answered, journal.deaths())}:
        if number in sealed:
            journal.delete(number * size, (number + 1) * size)


def count_saved(journal: Journal, identity: Identity, sealed: Mapping[int, SealedPart]) -> Counts:
    """Count the saved answers: those of the sealed parts, and those of the journal that are in no sealed part.

    A record that was deleted can return if the log of the journal is damaged.
    """
    saved = journal.answers(0, identity.stop)
    waiting = count_responses(r for r in saved if r.index // identity.part_rows not in sealed)
    return sum((part.counts for part in sealed.values()), waiting)


def count_saved_rows(journal: Journal, identity: Identity, sealed: Collection[int]) -> int:
    """The number of saved output rows; no sealed part is read."""
    saved = journal.answers(0, identity.stop)
    waiting = sum(r.index // identity.part_rows not in sealed for r in saved)
    return sum(map(identity.output_rows, sealed)) + waiting
