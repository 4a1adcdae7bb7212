"""The result of a run: outcome, counts, exit code, and where its answers are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import polars as pl

from batchgen.errors import ExitCode, StateError
from batchgen.evaluation.gates import GateResult
from batchgen.job.spec import RunSection
from batchgen.output.published_run import PublishedRun
from batchgen.output.unfinished_run import why_unfinished
from batchgen.records import MetricRow
from batchgen.run.reuse import ReuseCounts
from batchgen.state.parts import Counts
from batchgen.state.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run.

    Attributes:
        resumed_rows: output rows that earlier starts of this run had saved.
        limits: the job's section `run`.
        why_stopped: the deadline that passed; empty if there was none, or the user stopped the run.
        incremental: what was reused of an earlier run; None if there is none, or the run is not complete.
        seconds: from the first row to the last, without loading the model; 0 if no row was left.
        metrics: the rows of metrics.parquet.
    """

    outcome: Literal["done", "already complete", "stopped", "withheld"]
    folder: RunFolder
    run_id: str
    counts: Counts
    expected_rows: int
    resumed_rows: int
    limits: RunSection
    engine: Mapping[str, Any]
    seconds: float = 0.0
    load_seconds: float = 0.0
    why_stopped: str = ""
    metrics: Sequence[MetricRow] = ()
    gates: Sequence[GateResult] = ()
    incremental: ReuseCounts | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The command's exit code; a run stopped by a signal ends by that signal instead."""
        if self.outcome == "stopped":
            return ExitCode.RUN_AGAIN
        if self.too_many_failed:
            return ExitCode.TOO_MANY_FAILED_ROWS
        if not all(gate.passed for gate in self.gates):
            return ExitCode.GATE_FAILED
        return ExitCode.DONE

    @property
    def too_many_failed(self) -> bool:
        return self.counts.failed > self.max_failed

    @property
    def max_failed(self) -> int:
        """Largest number of failed answers that both limits allow."""
        # Decimal, as written in the job: 0.29 * 100 is 28.999... in binary.
        by_rate = math.floor(Decimal(str(self.limits.max_error_rate)) * self.counts.rows)
        count = self.limits.max_error_count
        return by_rate if count is None else min(by_rate, count)

    @property
    def error_limit(self) -> str:
        """The stricter of the two limits, such as `run.max_error_rate: 0.01`."""
        if self.max_failed == self.limits.max_error_count:
            return f"run.max_error_count: {self.limits.max_error_count}"
        return f"run.max_error_rate: {self.limits.max_error_rate}"

    @property
    def not_passed(self) -> list[str]:
        """Reasons against `publish: gated`, a sentence each."""
        why = [f"gate {one.gate}: {one.found}" for one in self.gates if not one.passed]
        if self.too_many_failed:
            allowed = f"allowed: {self.max_failed:,} ({self.error_limit})"
            why.append(f"failed rows: {self.counts.failed:,}, {allowed}")
        return why

    def frame(self) -> pl.DataFrame:
        """The answers, in memory.

        Raises:
            StateError: the run is not complete, or its answers are damaged.
        """
        if self.outcome == "stopped":
            raise StateError(f"{self.folder.path} is not complete", hint="Run the job again.")
        if self.outcome == "withheld":
            why = why_unfinished(self.folder)
            raise StateError(why.problem, hint=why.hint)
        return PublishedRun(self.folder).frame()
