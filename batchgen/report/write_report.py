"""Write the report of a run."""

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchgen.evaluation.comparing.compare import Comparison
from batchgen.evaluation.comparing.compare_several import compare_several
from batchgen.output.publish import Stage
from batchgen.records import MetricRow
from batchgen.report.build_comparison import build_comparison
from batchgen.report.build_report import build_report
from batchgen.report.charts.chart_packages import check_chart_packages
from batchgen.report.report_baseline import check_common_rows, open_baseline
from batchgen.report.reported_run import open_reported_run, staged_run
from batchgen.state.run_folder import RunFolder
from batchgen.storage.durable import disk_errors, write_durably


def write_report(
    path: Path,
    output: Path | None = None,
    *,
    baseline: Path | None = None,
    masked: bool = False,
) -> Path:
    """Write the report of a complete run, into its folder unless `output` names a file. Its permissions are those of the answers.

    With a `baseline`, the folder of another run, the page shows what differs. `masked`: without personal data in its texts.

    Raises:
        UsageError: a run is unfinished or has no scores, or the baseline has other prompts.
        StateError: files of the run are damaged.
        DataError: a package for charts is not installed.
        ResourceError: the file cannot be written.
    """
    check_chart_packages()
    run = open_reported_run(path)
    compared = open_baseline(run, baseline) if baseline else None
    page = build_report(run, compared, masked=masked)
    target = (output or RunFolder(path).report).absolute()
    mode = stat.S_IMODE(run.scored.responses.paths[0].stat().st_mode)
    _write(target, page, mode)
    return target


def write_comparison(
    base: Path,
    others: Sequence[Path],
    output: Path,
    *,
    metrics: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
    pair_changed_prompts: bool = False,
) -> None:
    """Write the page of a comparison: the report of one run with its baseline, or a table of several runs.

    Raises:
        UsageError: a run is unfinished or has no scores, or has no prompt in common with the first one.
        DataError: a package for charts is not installed.
    """
    check_chart_packages()
    options: dict[str, Any] = {
        "metrics": metrics,
        "margins": margins,
        "pair_changed_prompts": pair_changed_prompts,
    }
    if len(others) == 1:
        run = open_reported_run(others[0])
        _write(output.absolute(), build_report(run, open_baseline(run, base, **options)))
        return
    compared = compare_several(base, others, **options)
    for comparison in compared:
        check_common_rows(comparison)
    write_comparison_page(compared, output)


def write_comparison_page(comparisons: Sequence[Comparison], output: Path) -> None:
    """Write the page about several runs, each compared with the first one.

    Raises:
        DataError: a package for charts is not installed.
        ResourceError: the file cannot be written.
    """
    check_chart_packages()
    _write(output.absolute(), build_comparison(comparisons))


def _write(target: Path, page: str, mode: int = 0o600) -> None:
    with disk_errors("cannot write", target):
        write_durably(target, page.encode(), scratch=target.parent, mode=mode)


def stage_report(stage: Stage, rows: Sequence[MetricRow], manifest: Mapping[str, Any]) -> None:
    """Stage the report of a run with its other files; `rows` are those of metrics.parquet."""
    run = staged_run(stage.folder, rows, manifest)
    stage.text(stage.folder.report.name, build_report(run))
