"""What `batchgen run` prints and writes about a matrix of runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchgen.cli.options import write_summary
from batchgen.cli.render.matrix_summary import matrix_lines, matrix_summary, run_state
from batchgen.cli.render.run_summary import print_summary
from batchgen.cli.render.several_runs import several_runs_lines
from batchgen.cli.render.terminal import json_line, printable
from batchgen.report.exchange.junit import several_junit
from batchgen.report.exchange.markdown import several_markdown

if TYPE_CHECKING:
    from batchgen.run.matrix.matrix_result import CombinationResult, MatrixResult


@dataclass(frozen=True, slots=True)
class MatrixOutput:
    """What is printed, and the files that it is written to; `resume` is the command that continues the matrix."""

    as_json: bool
    quiet: bool
    markdown: Path | None
    junit: Path | None
    resume: str

    def print_run(self, one: "CombinationResult") -> None:
        """Print the summary of a run that has ended."""
        if one.result is None:
            click.echo(f"error  {printable(str(one.error))}", err=True)
        elif not self.quiet or one.result.exit_code != 0:
            print_summary(one.result, resume=self.resume)

    def print_matrix(self, result: "MatrixResult") -> None:
        """Print the summary and the comparison, and write the files."""
        self._write_files(result)
        if not self.quiet or result.exit_code != 0:
            click.echo("\n".join(matrix_lines(result)), err=True)
        if self.as_json:
            click.echo(json_line(matrix_summary(result)))
        elif not self.quiet and result.comparisons:
            click.echo("\n".join(several_runs_lines(result.comparisons)))

    def _write_files(self, result: "MatrixResult") -> None:
        runs = {one.combination.name: one for one in result.runs}
        complete = {name: one.result for name, one in runs.items() if one.result is not None}
        bad = {name: one for name, one in runs.items() if int(one.exit_code) not in (0, 4)}
        reasons = {name: run_state(one) for name, one in bad.items()}
        gates = {name: one.gates for name, one in complete.items()}
        metrics = {name: one.metrics for name, one in complete.items()}
        write_summary(
            self.markdown, lambda: several_markdown(gates, metrics, reasons, result.comparisons)
        )
        write_summary(self.junit, lambda: several_junit(gates, reasons))
