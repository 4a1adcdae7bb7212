"""The votes of a run: `feedback/REVIEWER.jsonl` in its folder, one vote a line, only ever appended to.

A vote is on disk before `append_vote` returns. Several processes may append to one file: each holds a lock of it for one
vote. What a process wrote of a vote before it was killed is the end of the file: no reviewer has seen it accepted, so that
readers leave it out and the next writer removes it.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import StateError
from batchgen.feedback.vote import Vote, parse_vote
from batchgen.state.run_folder import RunFolder, folder_mode
from batchgen.storage.durable import disk_errors, read_errors, sync_folder
from batchgen.storage.entries import check_regular, exists, list_folder
from batchgen.storage.failpoints import fail_point

_SUFFIX = ".jsonl"


@dataclass(frozen=True, slots=True)
class SavedVotes:
    """Votes as they were saved, undone ones included; see `standing_votes`.

    Attributes:
        repeated: how many times a vote was there again, word for word; each is in `votes` once.
        notes: what was left out, and where.
    """

    votes: Sequence[Vote]
    repeated: int = 0
    notes: Sequence[str] = ()


def feedback_folder(run: RunFolder) -> Path:
    """The folder with the votes of a run. It is not in the manifest: votes come after a run is published."""
    return run.path / "feedback"


def votes_path(run: RunFolder, reviewer: str) -> Path:
    """The file with the votes of a reviewer."""
    return feedback_folder(run) / f"{reviewer}{_SUFFIX}"


def append_vote(run: RunFolder, vote: Vote, *, mode: int = 0o600) -> None:
    """Append a vote to the file of its reviewer. It is on disk when this returns.

    `mode` is that of a new file, such as the mode of the run's answers.

    Raises:
        ResourceError: the disk is full, or may not be written; nothing of the vote is in the file.
        StateError: there is something else than a file in its place.
    """
    append_votes(run, [vote], mode=mode)


def append_votes(run: RunFolder, votes: Sequence[Vote], *, mode: int = 0o600) -> None:
    """Append votes as `append_vote` does: those of one reviewer all or, after an error, none."""
    by_reviewer: dict[str, list[Vote]] = {}
    for vote in votes:
        by_reviewer.setdefault(vote.reviewer, []).append(vote)
    for reviewer, own in by_reviewer.items():
        path = votes_path(run, reviewer)
        with disk_errors("cannot write", path):
            _make_folder(path.parent, mode)
            _append(path, "".join(vote.to_line() for vote in own).encode(), mode)


def read_votes(run: RunFolder) -> SavedVotes:
    """All votes of a run, by reviewer, in the order in which they were saved. None where nobody has voted.

    Raises:
        StateError: a file is damaged; with its line. Or two votes with the same id differ.
    """
    paths = list_folder(feedback_folder(run), _SUFFIX)
    return merge_votes([(path, read_votes_file(path)) for path in paths])


def read_votes_file(path: Path) -> SavedVotes:
    """The votes of one file.

    Raises:
        StateError: it is damaged; with the line.
    """
    check_regular(path)
    with read_errors(path):
        content = path.read_bytes()
    votes: list[Vote] = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            votes.append(parse_vote(line))
        except ValueError as error:
            if number == len(lines) and _is_unfinished(line):
                note = f"{path}:{number}: the last line is not complete and was left out: its vote has not been accepted"
                return SavedVotes(votes, notes=(note,))
            raise StateError(
                f"{path}:{number}: not a vote: {error}",
                hint="Restore the file from a copy, or remove the line.",
            ) from error
    return SavedVotes(votes)


def merge_votes(files: Sequence[tuple[Path, SavedVotes]]) -> SavedVotes:
    """The votes of several files, each vote once.

    Raises:
        StateError: two votes with the same id differ.
    """
    seen: dict[str, tuple[Vote, Path]] = {}
    repeated = 0
    for path, saved in files:
        repeated += saved.repeated
        for vote in saved.votes:
            earlier, place = seen.setdefault(vote.vote_id, (vote, path))
            if earlier is vote:
                continue
            if earlier != vote:
                raise StateError(
                    f"the vote {vote.vote_id} differs between {place} and {path}",
                    hint="Remove one of the two lines: a vote is never changed after it was saved.",
                )
            repeated += 1
    notes = [note for _, saved in files for note in saved.notes]
    return SavedVotes([vote for vote, _ in seen.values()], repeated, notes)


def _make_folder(folder: Path, mode: int) -> None:
    if not exists(folder):
        folder.mkdir(mode=folder_mode(mode), exist_ok=True)
        sync_folder(folder.parent)


def _append(path: Path, content: bytes, mode: int) -> None:
    check_regular(path)
    is_new = not exists(path)
    with _locked(path, mode) as descriptor:
        if is_new:
            os.fchmod(descriptor, mode)
        complete = _remove_unfinished_line(descriptor)
        try:
            half = len(content) // 2
            _write(descriptor, content[:half])
            fail_point("vote.half")
            _write(descriptor, content[half:])
            fail_point("vote.before_sync")
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, complete)
            raise
    if is_new:
        sync_folder(path.parent)


@contextmanager
def _locked(path: Path, mode: int) -> Iterator[int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # the kernel releases it when the file is closed
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _remove_unfinished_line(descriptor: int) -> int:
    """Complete or remove a last line that has no end; return the size of the file. The caller holds the lock.

    A whole line without an end is one of a person's editor, or of a process that was killed before the last byte.
    """
    size = os.fstat(descriptor).st_size
    start = _last_line(descriptor, size)
    tail = os.pread(descriptor, size - start, start)
    if not tail:
        return size
    if _is_unfinished(tail):
        os.ftruncate(descriptor, start)
        return start
    _write(descriptor, b"\n")
    return size + 1


def _is_unfinished(line: bytes) -> bool:
    """Whether a line is not JSON: no beginning of an object is."""
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


_BLOCK = 1 << 16


def _last_line(descriptor: int, size: int) -> int:
    """The offset after the last end of a line; 0 if there is none."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
