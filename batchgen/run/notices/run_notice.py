"""How a run ended, in numbers: no text of a row, of a slice or of an error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from batchgen.errors import BatchgenError, ExitCode
from batchgen.run.result import RunResult

GateVerdict = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True, slots=True)
class RunNotice:
    """How a run ended.

    Attributes:
        outcome: of the result, or `error` if the run raised one.
        error: the class of that error; empty without one. Its message may quote a row.
        rows: output rows by `ok`, `failed` and `skipped`; empty if the run raised an error.
        tokens: by `input` and `output`.
        seconds: from the first row to the last.
        gates: the number of gates by verdict.
        metrics: the values of metrics over all rows.
    """

    job: str
    exit_code: ExitCode
    outcome: str
    error: str = ""
    run_id: str = ""
    expected_rows: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    gates: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_result(cls, job: str, result: RunResult) -> Self:
        """The notice of a run that has a result."""
        counts = result.counts
        ok = counts.rows - counts.failed - counts.skipped
        verdicts: Sequence[str] = [gate.verdict for gate in result.gates]
        return cls(
            job=job,
            exit_code=result.exit_code,
            outcome=result.outcome,
            run_id=result.run_id,
            expected_rows=result.expected_rows,
            rows={"ok": ok, "failed": counts.failed, "skipped": counts.skipped},
            tokens={"input": counts.input_tokens, "output": counts.output_tokens},
            seconds=result.seconds,
            gates={verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)},
            metrics={
                row.metric: row.value
                for row in result.metrics
                if row.slice == "all" and row.value is not None
            },
        )

    @classmethod
    def of_error(cls, job: str, error: Exception) -> Self:
        """The notice of a run that raised an error."""
        code = error.exit_code if isinstance(error, BatchgenError) else ExitCode.BUG
        return cls(job=job, exit_code=code, outcome="error", error=type(error).__name__)

    def describe(self) -> str:
        """One line for people."""
        words = [f"batchgen {self.job}: {self.outcome}, exit code {int(self.exit_code)}"]
        if self.error:
            words.append(self.error)
        if self.rows:
            counts = ", ".join(f"{n:,} {kind}" for kind, n in self.rows.items() if n)
            words.append(f"{sum(self.rows.values()):,} of {self.expected_rows:,} rows ({counts})")
        if self.gates:
            words.append(f"gates: {', '.join(f'{n} {one}' for one, n in self.gates.items())}")
        return " · ".join(words)
