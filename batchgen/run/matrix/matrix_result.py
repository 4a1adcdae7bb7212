"""The result of a matrix: those of its runs, the comparison of their scores, and one exit code."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import BatchgenError, ExitCode
from batchgen.evaluation.comparing.compare import Comparison
from batchgen.jobfile.matrix.load_matrix import Combination
from batchgen.run.notices.run_notice import RunNotice
from batchgen.run.result import RunResult

SEVERITY = (
    ExitCode.BUG,
    ExitCode.STATE,
    ExitCode.ENVIRONMENT,
    ExitCode.USAGE,
    ExitCode.RUN_AGAIN,
    ExitCode.TOO_MANY_FAILED_ROWS,
    ExitCode.GATE_FAILED,
    ExitCode.DONE,
)
"""Exit codes, the most severe first. As long as the same command can continue a run, 75 comes before 3 and 4."""


def most_severe(codes: Sequence[ExitCode]) -> ExitCode:
    """The one that comes first in `SEVERITY`; done if there is none."""
    return min(codes, key=SEVERITY.index, default=ExitCode.DONE)


@dataclass(frozen=True, slots=True)
class CombinationResult:
    """The result of one run: `error` if it could not start or finish, neither if it was not begun."""

    combination: Combination
    result: RunResult | None = None
    error: BatchgenError | None = None

    @property
    def exit_code(self) -> ExitCode:
        if self.error is not None:
            return self.error.exit_code
        return ExitCode.RUN_AGAIN if self.result is None else self.result.exit_code

    @property
    def is_published(self) -> bool:
        published = ("done", "already complete", "published again")
        return self.result is not None and self.result.outcome in published


@dataclass(frozen=True, slots=True)
class MatrixResult:
    """The result of a matrix.

    Attributes:
        comparisons: of each published run with the first published one; empty where there are no scores, or fewer than two runs.
        report: the page about them, with `output.report`.
        problem: why they could not be compared, or the page not be written.
        why_stopped: the deadline that passed; empty if there was none.
    """

    folder: Path
    runs: Sequence[CombinationResult]
    comparisons: Sequence[Comparison] = ()
    report: Path | None = None
    problem: BatchgenError | None = None
    why_stopped: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """The most severe exit code of the runs."""
        codes = [one.exit_code for one in self.runs]
        return most_severe([*codes, self.problem.exit_code] if self.problem else codes)

    def notice(self, job: str) -> RunNotice:
        """The notice about the matrix: sums over its runs, without metrics."""
        results = [one.result for one in self.runs if one.result is not None]
        code = self.exit_code
        endings = {ExitCode.DONE: "done", ExitCode.RUN_AGAIN: "stopped"}
        rows: Counter[str] = Counter()
        tokens: Counter[str] = Counter()
        gates: Counter[str] = Counter()
        for one in (RunNotice.of_result(job, result) for result in results):
            rows.update(one.rows)
            tokens.update(one.tokens)
            gates.update(one.gates)
        return RunNotice(
            job=job,
            exit_code=code,
            outcome=endings.get(code, "failed"),
            expected_rows=sum(result.expected_rows for result in results),
            rows=rows,
            tokens=tokens,
            seconds=sum(result.seconds for result in results),
            gates=gates,
        )
