"""How a run ended, and where its answers are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import polars as pl

from batchgen.errors import ExitCode, StateError
from batchgen.evaluation.gates import GateResult
from batchgen.output.published_run import PublishedRun
from batchgen.records import MetricRow
from batchgen.run.reuse import ReuseCounts
from batchgen.state.parts import Counts
from batchgen.state.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        resumed_rows: output rows that an earlier start of this run had sealed.
        why_stopped: which deadline is over, for people; empty if there was none, or somebody asked.
        incremental: how an earlier run was made use of; None if there was none, or the run is not complete.
        seconds: from the first row to the last, model loading not included; 0 if nothing was left to do.
        metrics: the rows of metrics.parquet.
        gates: what became of the gates.
    """

    outcome: Literal["done", "already complete", "stopped", "withheld"]
    folder: RunFolder
    run_id: str
    counts: Counts
    expected_rows: int
    resumed_rows: int
    seconds: float
    load_seconds: float
    max_errors: float
    engine: Mapping[str, Any]
    why_stopped: str = ""
    metrics: Sequence[MetricRow] = ()
    gates: Sequence[GateResult] = ()
    incremental: ReuseCounts | None = None

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with; a stopped run ends by its signal instead."""
        if self.outcome == "stopped":
            return ExitCode.RUN_AGAIN
        if self.too_many_failed:
            return ExitCode.TOO_MANY_FAILED_ROWS
        if not all(gate.passed for gate in self.gates):
            return ExitCode.GATE_FAILED
        return ExitCode.DONE

    @property
    def too_many_failed(self) -> bool:
        """Whether more rows failed than `run.max_errors` allows."""
        return self.counts.failed > allowed_failures(self.max_errors, self.counts.rows)

    @property
    def not_passed(self) -> list[str]:
        """What stands in the way of `publish: gated`, a sentence each."""
        why = [f"gate {one.gate}: {one.found}" for one in self.gates if not one.passed]
        if self.too_many_failed:
            allowed = allowed_failures(self.max_errors, self.counts.rows)
            why.append(
                f"failed rows: {self.counts.failed:,}, where run.max_errors allows {allowed:,}"
            )
        return why

    def frame(self) -> pl.DataFrame:
        """The answers.

        Raises:
            StateError: the run is not complete.
        """
        if self.outcome == "stopped":
            raise StateError(f"{self.folder.path} is not complete", hint="Run the job again.")
        if self.outcome == "withheld":
            raise StateError(
                f"the answers for {self.folder.path} were withheld: a gate or run.max_errors failed",
                hint=f"Read them in {self.folder.staged}.",
            )
        return PublishedRun(self.folder).frame()


def allowed_failures(max_errors: float, rows: int) -> int:
    """How many rows may fail: `max_errors` is a share below 1, a count from 1 on."""
    # As it is written in the job: 0.29 * 100 is 28.999… in binary.
    share = Decimal(str(max_errors))
    return math.floor(share * rows) if share < 1 else math.floor(share)
