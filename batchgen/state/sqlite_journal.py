"""The journal as a SQLite file. `journal.py` describes its methods.

    save ──> memory ──(a thread, every 0.2 s)──> one transaction ──> answers by (row, sample)
    mark ──────────────────────────────────────> rows in flight      ┐ at the next start, if the process crashed:
                                                 deaths by row     <─┘ one more for each row in flight

Every record has a hash over its content, its key and the run, since SQLite does not detect a flipped bit. A record
with a wrong hash is dropped, and a file that SQLite cannot read is moved aside; their rows are generated again.
"""

import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ResourceError, StateError
from batchgen.records import Response
from batchgen.state.crash_marker import CrashMarker
from batchgen.state.response_codec import decode, encode
from batchgen.storage.durable import disk_errors
from batchgen.storage.entries import exists
from batchgen.storage.failpoints import fail_point
from batchgen.storage.sqlite import connect, read_only, set_aside, translate_errors

SECONDS_BETWEEN_COMMITS = 0.2
ROWS_PER_COMMIT = 512
"""Most answers in memory. A killed process loses them, like the rows in flight."""

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS answers (row INTEGER, sample INTEGER, response BLOB, hash BLOB, PRIMARY KEY (row, sample)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS deaths (row INTEGER PRIMARY KEY, count INTEGER, hash BLOB);
    CREATE TABLE IF NOT EXISTS in_flight (row INTEGER PRIMARY KEY);
"""
_ANSWERED = "SELECT row FROM answers GROUP BY row HAVING count(*) = ?"


@dataclass(frozen=True, slots=True)
class JournalRecovery:
    """Damage found when a journal was opened.

    Attributes:
        dropped: number of damaged records; their rows are generated again.
        set_aside: new path of a file that could not be read.
    """

    dropped: int
    set_aside: Path | None


class SqliteJournal:
    """The journal of one run. Its methods are called from one thread; another thread commits."""

    def __init__(self, path: Path, *, run_id: str, samples: int) -> None:
        """Open or create the file. If the last process crashed, count a death for each of its rows in flight.

        Args:
            path: the file.
            run_id: records of other runs are ignored.
            samples: number of answers of a complete row.
        """
        self._path, self._run_id, self._samples = path, run_id, samples
        self._lock = threading.RLock()
        self._waiting: list[Response] = []
        self._failure: Exception | None = None
        self._wake = threading.Condition()
        self._closing = False
        self._death = False
        self._running = CrashMarker(path.with_suffix(".running"))
        died = self._running.died()
        aside: Path | None = None
        try:
            dropped = self._open(died)
        except StateError:
            aside = set_aside(path)
            dropped = self._open(died)
        self.recovery = JournalRecovery(dropped, aside)
        self._running.begin()
        self._thread = threading.Thread(target=self._commit_regularly, name="journal", daemon=True)
        self._thread.start()

    def answers(self, first: int, stop: int) -> Sequence[Response]:
        self.flush()
        with self._transaction("read") as database:
            records = database.execute(
                "SELECT row, sample, response, hash FROM answers WHERE row >= ? AND row < ?",
                (first, stop),
            ).fetchall()
        return _intact_answers(self._run_id, records)

    def deaths(self) -> Mapping[int, int]:
        with self._transaction("read") as database:
            records = database.execute(
                f"SELECT row, count, hash FROM deaths WHERE row NOT IN ({_ANSWERED})",  # a constant
                (self._samples,),
            ).fetchall()
        return {row: n for row, n, hash_ in records if hash_ == self._death_hash(row, n)}

    def mark(self, rows: Iterable[int]) -> None:
        with self._transaction("note what is in flight in") as database:
            database.executemany("INSERT OR IGNORE INTO in_flight VALUES (?)", ((r,) for r in rows))

    def unmark(self) -> None:
        with self._transaction("note what is in flight in") as database:
            database.execute("DELETE FROM in_flight")

    def set_deaths(self, deaths: Mapping[int, int]) -> None:
        records = [(row, n, self._death_hash(row, n)) for row, n in deaths.items()]
        with self._transaction("count deaths in") as database:
            database.executemany("INSERT OR REPLACE INTO deaths VALUES (?, ?, ?)", records)

    def save(self, response: Response) -> None:
        """Save an answer. Raises the error of an earlier commit, if one failed."""
        with self._wake:
            self._waiting.append(response)
            if len(self._waiting) == 1 or len(self._waiting) == ROWS_PER_COMMIT:
                self._wake.notify()
        if self._failure is not None:
            raise self._failure

    def flush(self) -> None:
        with self._lock:
            with self._wake:
                taken, self._waiting = self._waiting, []
            if not taken:
                return
            try:
                self._commit(taken)
            except BaseException:
                with self._wake:
                    self._waiting = taken + self._waiting
                raise
            fail_point("journal.after_commit")

    def delete(self, first: int, stop: int) -> None:
        with self._transaction("clear") as database:
            fail_point("journal.before_forget")
            with self._wake:
                self._waiting = [r for r in self._waiting if not first <= r.index < stop]
            for table in ("answers", "deaths", "in_flight"):
                database.execute(
                    f"DELETE FROM {table} WHERE row >= ? AND row < ?",  # three constants
                    (first, stop),
                )
        with disk_errors("cannot clear", self._path):
            fail_point("journal.after_forget")

    def delete_failed(self) -> int:
        self.flush()
        with self._transaction("clear") as database:
            records = database.execute("SELECT row, sample, response FROM answers").fetchall()
            failed = [
                (row, sample)
                for row, sample, content in records
                if decode(content).finish_reason == "error"
            ]
            database.executemany("DELETE FROM answers WHERE row = ? AND sample = ?", failed)
        return len(failed)

    def note_death(self) -> None:
        """Record that a worker process crashed: the next start counts it as a crash of this process."""
        self._death = True

    def close(self) -> None:
        """Commit the answers in memory, record an orderly exit and close the file, even after an error."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        try:
            self.flush()
        finally:
            if not self._death:
                self._running.end()
            self._database.close()

    def _open(self, died: bool) -> int:
        self._database = connect(self._path, _SCHEMA)
        try:
            return self._drop_damaged_and_count_deaths(died)
        except BaseException:
            self._database.close()
            raise

    def _drop_damaged_and_count_deaths(self, died: bool) -> int:
        """Delete damaged records and return their number; count a death for each row in flight."""
        with self._transaction("open") as database:
            if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("quick_check found damage")
            bad = [
                (row, sample)
                for row, sample, content, hash_ in database.execute(
                    "SELECT row, sample, response, hash FROM answers"
                )
                if hash_ != self._hash(row, sample, content)
            ]
            database.executemany("DELETE FROM answers WHERE row = ? AND sample = ?", bad)
            before = self.deaths()
            suspects = database.execute(
                f"SELECT row FROM in_flight WHERE row NOT IN ({_ANSWERED})",  # a constant
                (self._samples,),
            ).fetchall()
            if died:
                # Deaths are counted in a row: a row that was not in flight at this one starts from zero.
                database.execute("DELETE FROM deaths")
                self.set_deaths({row: before.get(row, 0) + 1 for (row,) in suspects})
            database.execute("DELETE FROM in_flight")
        return len(bad)

    def _commit_regularly(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closing)
                if not self._closing and len(self._waiting) < ROWS_PER_COMMIT:
                    self._wake.wait_for(
                        lambda: self._closing or len(self._waiting) >= ROWS_PER_COMMIT,
                        timeout=SECONDS_BETWEEN_COMMITS,
                    )
                if self._closing:
                    return
            try:
                self.flush()
            except (ResourceError, StateError) as error:
                self._failure = error
                return

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[sqlite3.Connection]:
        """A transaction, or part of the one that is open."""
        with self._lock, translate_errors(doing, self._path):
            inside = self._database.in_transaction
            if inside:
                yield self._database
                return
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors, such as a full disk.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _commit(self, responses: Sequence[Response]) -> None:
        with self._transaction("save answers in") as database:
            database.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", map(self._record, responses)
            )
            fail_point("journal.before_commit")

    def _record(self, response: Response) -> tuple[int, int, bytes, bytes]:
        content = encode(response)
        key = response.index, response.sample
        return *key, content, self._hash(*key, content)

    def _death_hash(self, row: object, count: object) -> bytes:
        return self._hash(row, "deaths", str(count).encode())

    def _hash(self, row: object, sample: object, content: object) -> bytes:
        return record_hash(self._run_id, row, sample, content)


def record_hash(run_id: str, row: object, sample: object, content: object) -> bytes:
    """Hash of a record. After a flipped bit SQLite may return values of any type."""
    key = f"{run_id}/{row}/{sample}/{type(content).__name__}/".encode()
    return hashlib.blake2b(
        key + (content if isinstance(content, bytes) else b""), digest_size=16
    ).digest()


def saved_answers(path: Path, run_id: str) -> Sequence[Response]:
    """The answers in a journal, even while a run uses it; empty if it cannot be read: the next `run` reports why."""
    if not exists(path):
        return ()
    try:
        with read_only(path) as database:
            records = database.execute("SELECT row, sample, response, hash FROM answers").fetchall()
    except (sqlite3.Error, StateError):
        return ()
    return _intact_answers(run_id, records)


def _intact_answers(
    run_id: str, records: Iterable[tuple[int, int, bytes, bytes]]
) -> Sequence[Response]:
    return [
        decode(content)
        for row, sample, content, hash_ in records
        if hash_ == record_hash(run_id, row, sample, content)
    ]
