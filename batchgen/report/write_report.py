"""Write the report of a run."""

import stat
from pathlib import Path

from batchgen.report.build_report import build_report
from batchgen.report.charts.chart_packages import check_chart_packages
from batchgen.report.reported_run import open_reported_run
from batchgen.storage.durable import disk_errors, write_durably

NAME = "report.html"


def write_report(path: Path, output: Path | None = None) -> Path:
    """Write the report of a complete run, into its folder unless `output` names a file. Its permissions are those of the answers.

    Raises:
        UsageError: the run is unfinished or has no scores.
        StateError: files of the run are damaged.
        DataError: a package for charts is not installed.
        ResourceError: the file cannot be written.
    """
    check_chart_packages()
    run = open_reported_run(path)
    page = build_report(run)
    target = (output or path / NAME).absolute()
    mode = stat.S_IMODE(run.scored.responses.paths[0].stat().st_mode)
    with disk_errors("cannot write", target):
        write_durably(target, page.encode(), scratch=target.parent, mode=mode)
    return target
