"""The journal: committed answers survive a kill unchanged; damage is detected; crashes are counted by row."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.errors import BatchgenError, DeathError, ResourceError
from batchgen.progress import SILENT
from batchgen.records import Failure, Message, Response, TokenLogprobs
from batchgen.state import sqlite_journal
from batchgen.state.crash_marker import CrashMarker
from batchgen.state.journal import Journal, NoJournal, open_journal
from batchgen.state.response_codec import decode, encode
from batchgen.state.run_folder import RunFolder
from batchgen.state.sqlite_journal import SqliteJournal, saved_answers
from batchgen.storage import failpoints
from tests.reporters import RecordingReporter

MOMENT = datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC)


def response(index: int, sample: int = 0, text: str | None = "ja") -> Response:
    return Response(
        index=index,
        id=f"row {index}",
        sample=sample,
        messages=(Message("user", "问"),),
        response=text,
        reasoning=None,
        finish_reason="stop" if text is not None else "error",
        failure=None if text is not None else Failure("out_of_memory", "too long"),
        input_tokens=3,
        output_tokens=1,
        seed=2**63 - 1,
        logprob_mean=-0.1,
        prompt_hash="p",
        row_fingerprint="f",
        created_at=MOMENT,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


def opened(path: Path, run_id: str = "run", samples: int = 1) -> SqliteJournal:
    return SqliteJournal(path, run_id=run_id, samples=samples)


def dead(path: Path) -> None:
    """Leave the files as a killed process does."""
    CrashMarker(path.with_suffix(".running")).begin()


@given(
    text=st.none() | st.text(st.characters(codec=None)),
    logprob=st.none() | st.floats(allow_nan=False),
    messages=st.lists(st.builds(Message, st.sampled_from(["user", "system"]), st.text())),
)
def test_a_saved_response_is_read_back_unchanged(
    text: str | None, logprob: float | None, messages: list[Message]
) -> None:
    kept = replace(response(7, text=text), logprob_mean=logprob, messages=tuple(messages))
    assert decode(encode(kept)) == kept


@pytest.mark.parametrize("withheld", [False, True])
def test_saved_log_probabilities_are_read_back_unchanged(withheld: bool) -> None:
    logprobs = array("f", [-0.1, -2.5, float("-inf"), -1e-30])
    ids, texts = ((), ()) if withheld else ([7, 2**31 - 1, 0, 7], ("é", "\ufffd", "", "é"))
    recorded = TokenLogprobs(2, logprobs, array("i", ids), texts)
    kept = replace(response(7), token_logprobs=recorded)
    assert decode(encode(kept)) == kept


def test_saved_probabilities_of_labels_are_read_back_unchanged() -> None:
    kept = replace(response(7), label_logprobs=(("é", -0.25), ("no", float("-inf"))))
    assert decode(encode(kept)) == kept


@pytest.mark.parametrize("count", [1, 2])
def test_a_response_of_a_version_without_log_probabilities_is_read(count: int) -> None:
    values = json.loads(encode(response(7)))
    assert decode(json.dumps(values[:-count]).encode()) == response(7)


def test_reopening_the_journal_restores_its_answers(path: Path) -> None:
    kept = [response(3), response(5, 1), response(5, 0), response(9, text=None)]
    with closing(opened(path)) as journal:
        for one in kept:
            journal.save(one)
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(opened(path)) as journal:
        assert sorted(journal.answers(0, 100), key=lambda r: (r.index, r.sample)) == [
            kept[0],
            kept[2],
            kept[1],
            kept[3],
        ]
        assert journal.answers(3, 5) == [kept[0]]
        journal.delete(0, 6)
        assert journal.answers(0, 100) == [kept[3]]


def test_the_last_answer_of_a_row_replaces_earlier_ones(path: Path) -> None:
    with closing(opened(path)) as journal:
        journal.save(response(1, text="first"))
        journal.save(response(1, text="second"))
        journal.flush()
        assert [r.response for r in journal.answers(0, 2)] == ["second"]


def test_answers_are_committed_while_the_engine_is_busy(path: Path) -> None:
    """Nothing calls the journal after `keep`: its own thread commits."""
    with closing(opened(path)) as journal:
        journal.save(response(1))
        deadline = time.monotonic() + 20
        while not saved_answers(path, "run"):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_answers_of_a_sealed_part_are_deleted(path: Path) -> None:
    """The thread may not have committed them yet when their part is sealed."""
    with closing(opened(path)) as journal:
        journal.save(response(1))
        journal.save(response(9))
        journal.delete(0, 5)
    with closing(opened(path)) as journal:
        assert [r.index for r in journal.answers(0, 100)] == [9]


def test_answers_of_another_run_are_ignored(path: Path) -> None:
    with closing(opened(path, "old")) as journal:
        journal.save(response(1))
    with closing(opened(path, "new")) as journal:
        assert journal.recovery.dropped == 1
        assert journal.answers(0, 9) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from batchgen.state.sqlite_journal import SqliteJournal
from tests.state.test_journal import response
journal = SqliteJournal(Path(sys.argv[1]), run_id="run", samples=1)
journal.mark(range(10))
for row in (1, 2, 3):
    journal.save(response(row))
journal.flush()
journal.save(response(4))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_only_uncommitted_answers(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with closing(opened(path)) as journal:
        answered = {r.index for r in journal.answers(0, 100)}
        assert {1, 2, 3} <= answered <= {1, 2, 3, 4}
        assert journal.deaths() == dict.fromkeys(set(range(10)) - answered, 1)


def test_crashes_accumulate_until_the_row_is_answered(path: Path) -> None:
    for count in (1, 2, 3):
        with closing(opened(path)) as journal:
            assert journal.deaths() == ({} if count == 1 else {4: count - 1, 5: count - 1})
            journal.mark([4, 5])
        dead(path)
    with closing(opened(path)) as journal:
        journal.save(response(5))
        journal.flush()
        assert journal.deaths() == {4: 3}


def test_only_crashes_in_a_row_are_counted(path: Path) -> None:
    for rows in ([4, 5], [5, 6], [5]):
        with closing(opened(path)) as journal:
            journal.mark(rows)
        dead(path)
    with closing(opened(path)) as journal:
        assert journal.deaths() == {5: 3}
    with closing(opened(path)) as journal:
        journal.mark([4])
    dead(path)
    with closing(opened(path)) as journal:
        assert journal.deaths() == {4: 1}


def test_a_row_is_answered_when_all_its_samples_are(path: Path) -> None:
    with closing(opened(path, samples=2)) as journal:
        journal.mark([1, 2])
        for key in ((1, 0), (1, 1), (2, 0)):
            journal.save(response(*key))
    dead(path)
    with closing(opened(path, samples=2)) as journal:
        assert journal.deaths() == {2: 1}


@pytest.mark.parametrize("how", ["closed", "rebooted", "unmarked"])
def test_no_row_is_suspect_without_a_crash(path: Path, how: str) -> None:
    with closing(opened(path)) as journal:
        journal.mark([1, 2])
        if how == "unmarked":
            journal.unmark()
    if how != "closed":
        dead(path)
    if how == "rebooted":
        path.with_suffix(".running").write_text("another boot of this machine")
    with closing(opened(path)) as journal:
        assert journal.deaths() == {}


Damage = Callable[[Path], None]


def change(sql: str) -> Damage:
    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(sql)

    return damage


def overwrite(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        pytest.param(
            change("UPDATE answers SET response = '[]' WHERE row = 1"), {2}, id="response"
        ),
        pytest.param(change("UPDATE answers SET row = 7 WHERE row = 1"), {2}, id="key"),
        pytest.param(change("UPDATE answers SET hash = NULL WHERE row = 1"), {2}, id="hash"),
        pytest.param(change("UPDATE deaths SET count = 3"), {1, 2}, id="deaths"),
        pytest.param(change("UPDATE deaths SET count = 'x'"), {1, 2}, id="no number"),
        pytest.param(change("UPDATE deaths SET hash = 7"), {1, 2}, id="no hash"),
        pytest.param(change("ALTER TABLE answers RENAME TO answer"), set(), id="table"),
        pytest.param(
            change("ALTER TABLE answers RENAME COLUMN response TO answer"), set(), id="column"
        ),
        pytest.param(overwrite, set(), id="overwritten"),
        pytest.param(truncate, set(), id="truncated"),
    ],
)
def test_damage_is_detected_and_loses_only_answers(
    path: Path, damage: Damage, left: set[int]
) -> None:
    with closing(opened(path)) as journal:
        journal.save(response(1))
        journal.save(response(2))
        journal.set_deaths({4: 1})
    damage(path)
    with closing(opened(path)) as journal:
        assert {r.index for r in journal.answers(0, 100)} == left
        assert set(journal.deaths().values()) <= {1}
        assert all(r == response(r.index) for r in journal.answers(0, 100))
        journal.save(response(3))
        journal.flush()
        assert 3 in {r.index for r in journal.answers(0, 100)}


def test_a_torn_log_loses_only_its_tail(path: Path) -> None:
    script = KILLED.replace(
        "journal.flush()", "journal.flush(); journal.save(response(6)); journal.flush()"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    log = path.with_name(path.name + "-wal")
    os.truncate(log, log.stat().st_size - 100)
    with closing(opened(path)) as journal:
        assert {1, 2, 3} <= {r.index for r in journal.answers(0, 100)}
        assert journal.recovery == sqlite_journal.JournalRecovery(0, None)


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def arm(text: str) -> None:
        monkeypatch.setenv(failpoints.VARIABLE, text)
        failpoints.arm()

    yield arm
    arm("")


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EFBIG", "EIO"])
def test_a_disk_error_is_raised_at_the_next_save_and_loses_nothing_saved(
    path: Path, fail_at: Callable[[str], None], error: str
) -> None:
    journal = opened(path)
    journal.save(response(1))
    journal.flush()
    fail_at(f"journal.before_commit={error}")
    journal.save(response(2))
    journal._thread.join(timeout=20)
    with pytest.raises(ResourceError, match="cannot save answers in") as caught:
        journal.save(response(3))
    assert "repeat the command to resume" in caught.value.hint
    with pytest.raises(ResourceError):
        journal.close()
    fail_at("")
    assert not path.with_suffix(".running").exists()
    with closing(opened(path)) as again:
        assert again.answers(0, 100) == [response(1)]


def test_pending_answers_are_saved_once_the_disk_has_space(
    path: Path, fail_at: Callable[[str], None]
) -> None:
    with closing(opened(path)) as journal:
        fail_at("journal.before_commit=ENOSPC")
        journal.save(response(2))
        with pytest.raises(ResourceError):
            journal.flush()
        fail_at("")
    with closing(opened(path)) as again:
        assert again.answers(0, 100) == [response(2)]


def test_there_is_no_journal_on_shared_filesystems(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    folder.create()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"36 35 98:0 / {tmp_path} rw,noatime - nfs4 server:/export rw\n")
    messages: list[str] = []
    with open_journal(
        folder, run_id="r", samples=1, reporter=RecordingReporter(messages), mounts=mounts
    ) as journal:
        assert isinstance(journal, NoJournal)
        journal.save(response(1))
        assert journal.answers(0, 9) == ()
    assert "nfs4" in messages[0]
    assert "batching.part_rows" in messages[0]
    assert not folder.journal.exists()


@pytest.mark.parametrize(
    ("error", "deaths"), [(DeathError("a lane"), {3: 1}), (ResourceError("memory"), {})]
)
def test_a_crash_of_a_process_that_answered_is_counted(
    error: BatchgenError, deaths: dict[int, int], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    folder.private.mkdir(exist_ok=True)

    def opened() -> AbstractContextManager[Journal]:
        return open_journal(folder, run_id="r", samples=1, reporter=SILENT)

    def fail() -> None:
        with opened() as journal:
            journal.mark([3])
            raise error

    with pytest.raises(type(error)):
        fail()
    with opened() as journal:
        assert journal.deaths() == deaths
