"""Write the page of `batchgen history`."""

from pathlib import Path

from batchgen.report.history.build_history import build_history
from batchgen.report.history.job_history import RunHistory
from batchgen.storage.durable import disk_errors, write_durably


def write_history(history: RunHistory, output: Path) -> None:
    """Write the page; only its owner may read it.

    Raises:
        DataError: a package for charts is not installed.
        ResourceError: the file cannot be written.
    """
    target, page = output.absolute(), build_history(history)
    with disk_errors("cannot write", target):
        write_durably(target, page.encode(), scratch=target.parent)
