"""The summary of a matrix of runs, as lines for a terminal and as an object for `--json`."""

from collections.abc import Iterator, Mapping
from typing import Any

from batchgen.cli.render.run_summary import summary
from batchgen.cli.render.terminal import display_width, fit_width, format_count, printable
from batchgen.errors import ExitCode
from batchgen.run.matrix.matrix_result import CombinationResult, MatrixResult


def matrix_lines(result: MatrixResult) -> Iterator[str]:
    """The exit code and what it comes from, then a line for each run."""
    code = int(result.exit_code)
    bad = sum(one.exit_code != ExitCode.DONE for one in result.runs)
    stopped = f"{result.why_stopped}: " if result.why_stopped else ""
    verdict = f"{stopped}{bad:,} of {len(result.runs):,} did not end well: exit code {code}"
    yield f"matrix {format_count(len(result.runs), 'run')}{': ' + verdict if code else ' done'} in {printable(str(result.folder))}"
    width = max(display_width(one.combination.name) for one in result.runs)
    for one in result.runs:
        name = fit_width(one.combination.name, width)
        yield f"  {int(one.exit_code):<3} {printable(f'{name}  {run_state(one)}'.rstrip())}"
    if result.report is not None:
        yield f"report {printable(str(result.report))}"
    if result.problem is not None:
        yield f"not compared: {printable(str(result.problem))}"


def run_state(one: CombinationResult) -> str:
    """What became of a run, in a few words."""
    if one.error is not None:
        return one.error.message.splitlines()[0]
    if one.result is None:
        return "not begun"
    counts, result = one.result.counts, one.result
    ok = counts.rows - counts.failed - counts.skipped
    parts = [f"{result.outcome}: {ok:,} of {result.expected_rows:,} ok"]
    parts += [f"{counts.failed:,} failed"] if counts.failed else []
    parts += [f"gate {gate.gate} failed" for gate in result.gates if not gate.passed]
    return " · ".join(parts)


def matrix_summary(result: MatrixResult) -> Mapping[str, Any]:
    """The object that `run --json` prints for a matrix."""
    return {
        "ok": result.exit_code == ExitCode.DONE,
        "exit_code": int(result.exit_code),
        "output": str(result.folder),
        "why_stopped": result.why_stopped,
        "runs": [
            {
                "name": one.combination.name,
                "settings": dict(one.combination.settings),
                "exit_code": int(one.exit_code),
                "error": None if one.error is None else str(one.error),
                "result": None if one.result is None else summary(one.result),
            }
            for one in result.runs
        ],
        "comparisons": [one.plain() for one in result.comparisons],
        "report": None if result.report is None else str(result.report),
        "not_compared": None if result.problem is None else str(result.problem),
    }
