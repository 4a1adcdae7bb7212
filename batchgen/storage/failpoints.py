"""Fail points: named points in the code that writes files, where a test can kill the process or raise an OSError.

BATCHGEN_FAIL_AT=part.after_link            kill -9 of this process at the first pass
BATCHGEN_FAIL_AT=journal.before_commit:3    at the third pass
BATCHGEN_FAIL_AT=part.before_sync=ENOSPC    OSError with that number, from the first pass on
"""

import errno
import os
import re
import signal
from dataclasses import dataclass

from batchgen.errors import UsageError

VARIABLE = "BATCHGEN_FAIL_AT"

POINTS = (
    "job.half", "job.before_rename", "job.after_rename",
    "run.half", "run.before_rename", "run.after_rename",
    "journal.before_commit", "journal.after_commit",
    "part.half", "part.before_sync", "part.before_link", "part.after_link", "part.after_folder_sync",
    "record.half", "record.before_rename", "record.after_rename",
    "journal.before_forget", "journal.after_forget",
    "publish.half", "publish.before_sync",
    "release.half", "release.before_rename", "release.after_rename",
    "publish.before_rename", "publish.after_rename",
    "manifest.half", "manifest.before_rename", "manifest.after_rename",
    "clean.before", "clean.half",
)  # fmt: skip
"""In the order of a run."""
RETRY_POINTS = ("retry.half", "retry.before_rename", "retry.after_rename")
"""Passed only with `--retry-errors`."""
COLUMN_POINTS = ("columns.before_rename", "columns.after_rename")
"""Passed only where sealed parts get other columns."""
LIKELIHOOD_POINTS = ("likelihoods.half", "likelihoods.before_rename", "likelihoods.after_rename")
"""Passed only where a metric queries a model."""
REUSE_POINTS = ("incremental.half", "incremental.before_rename", "incremental.after_rename")
"""Passed only with `--incremental-from`."""
SHARD_POINTS = (
    "versions.half", "versions.before_rename", "versions.after_rename",
    "claim.before_link", "claim.after_link",
)  # fmt: skip
"""Passed only with `--shard`."""
MATRIX_POINTS = ("matrix.half", "matrix.before_rename", "matrix.after_rename")
"""Passed only by a matrix of runs."""
UPLOAD_POINTS = (
    "upload.half", "upload.before_rename", "upload.after_rename",
    "upload.after_file", "upload.before_manifest", "upload.after_manifest",
)  # fmt: skip
"""Passed only with `output.upload`."""
VOTE_POINTS = ("vote.half", "vote.before_sync")
"""Passed only when a vote is saved."""


@dataclass(slots=True)
class _Armed:
    """The parsed variable; `number` is that of the OSError, None for a kill."""

    point: str
    left: int
    number: int | None


def fail_point(point: str) -> None:
    """Kill the process or raise OSError, if the environment variable names this point."""
    if _armed is None or _armed.point != point:
        return
    _armed.left -= 1
    if _armed.left > 0:
        return
    if _armed.number is None:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        raise OSError(_armed.number, os.strerror(_armed.number), point)


def _read(text: str) -> _Armed | None:
    if not text:
        return None
    found = re.fullmatch(r"([a-z_.]+)(?::([1-9]\d*))?(?:=(E[A-Z0-9]+))?", text)
    number = getattr(errno, found[3], None) if found and found[3] else None
    if found is None or found[1] not in _KNOWN or (found[3] and number is None):
        raise UsageError(
            f"{VARIABLE}={text}: expected NAME, NAME:COUNT or NAME=ERRNO",
            hint=f"Use one of {', '.join(_KNOWN)}. Outside of tests, unset the variable.",
        )
    return _Armed(found[1], int(found[2] or 1), number)


_KNOWN = (
    *(*POINTS, *RETRY_POINTS, *COLUMN_POINTS, *LIKELIHOOD_POINTS),
    *(*REUSE_POINTS, *UPLOAD_POINTS, *SHARD_POINTS, *MATRIX_POINTS, *VOTE_POINTS),
)
_armed: _Armed | None = None


def arm() -> None:
    """Read the environment variable, before anything is written; UsageError if it is invalid."""
    global _armed  # one process, one fault
    _armed = _read(os.environ.get(VARIABLE, ""))
