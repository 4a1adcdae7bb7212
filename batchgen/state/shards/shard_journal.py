"""Journals of shards: each has one of its own, on a local disk where the run's folder is on a network filesystem.

.batchgen/shards/3-of-16.sqlite3          on a local filesystem
$TMPDIR/batchgen-UID/RUN-3-of-16.sqlite3  where SQLite is not safe in the run's folder; another machine does not see it
"""

import os
import stat
import tempfile
from collections.abc import Container
from pathlib import Path

from batchgen.errors import ResourceError
from batchgen.state.identity import Identity
from batchgen.state.journal import Journal, NoJournal
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.members import member_files
from batchgen.state.sqlite_journal import saved_answers
from batchgen.storage.durable import disk_errors
from batchgen.storage.entries import list_folder
from batchgen.storage.filesystems import MOUNTS, filesystem_of
from batchgen.storage.sqlite import remove

ENDING = ".sqlite3"


def shard_journal(folder: RunFolder, run_id: str, member: str, mounts: Path = MOUNTS) -> Path:
    """The path of a member's journal; its folder exists.

    Raises:
        ResourceError: the folder for temporary files belongs to another user, or cannot be written.
    """
    if not filesystem_of(folder.private, mounts).shared:
        return folder.shards / f"{member}{ENDING}"
    scratch = Path(tempfile.gettempdir()) / f"batchgen-{os.getuid()}"
    with disk_errors("cannot create", scratch):
        scratch.mkdir(mode=0o700, exist_ok=True)
        found = scratch.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ResourceError(
            f"{scratch} is not a folder that only this user may read",
            hint="Remove it, or set TMPDIR to another folder on a local disk.",
        )
    return scratch / f"{run_id}-{member}{ENDING}"


def shard_journals(folder: RunFolder) -> list[Path]:
    """The journals of shards that are in the run's folder."""
    return list_folder(folder.shards, ENDING)


def import_answers(journal: Journal, path: Path, identity: Identity, parts: Container[int]) -> None:
    """Copy the answers to the rows of some parts from another journal of the run, which no process writes."""
    for response in saved_answers(path, identity.run_id):
        if response.index // identity.part_rows in parts:
            journal.save(response)
    journal.flush()


def take_over_journals(
    journal: Journal, folder: RunFolder, identity: Identity, parts: Container[int]
) -> None:
    """Move the answers of all shards to the journal of the run. The caller holds the run's lock alone."""
    if isinstance(journal, NoJournal):
        return
    for path in shard_journals(folder):
        import_answers(journal, path, identity, parts)
        remove(path)
        path.with_suffix(".running").unlink(missing_ok=True)


def has_shards(folder: RunFolder) -> bool:
    """Whether shards have made parts of the run since it was last published."""
    return bool(member_files(folder))
