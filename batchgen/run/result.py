"""The result of a run: outcome, counts, exit code, and where its answers are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from batchgen.errors import ExitCode, StateError
from batchgen.evaluation.gates import GateResult
from batchgen.job.model_section import Price
from batchgen.job.spec import RunSection
from batchgen.output.published_run import PublishedRun
from batchgen.output.unfinished_run import why_unfinished
from batchgen.records import MetricRow
from batchgen.run.reuse import ReuseCounts
from batchgen.run.stop_signals import FailureLimit
from batchgen.shown_result import ShownResult
from batchgen.state.parts import Counts
from batchgen.state.run_folder import RunFolder


@dataclass(frozen=True, slots=True, repr=False)
class RunResult(ShownResult):
    """The result of a run.

    Attributes:
        resumed_rows: output rows that earlier starts of this run had saved.
        limits: the job's section `run`.
        why_stopped: the deadline that passed, or what failed; empty if the user stopped the run.
        stopped_by_failures: whether too many failed rows stopped the run.
        samples: answers of each input row.
        shard: which parts the counts are about, such as "3/16"; empty for all. Its outcome is `sealed`: nothing is published.
        price: of a million tokens, where the job gives one.
        incremental: what was reused of an earlier run; None if there is none, or the run is not complete.
        seconds: from the first row to the last, without loading the model; 0 if no row was left.
        metrics: the rows of metrics.parquet.
        uploaded: address of the run's folder in object storage, with `output.upload`.
    """

    outcome: Literal["done", "already complete", "published again", "stopped", "withheld", "sealed"]
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
    stopped_by_failures: bool = False
    samples: int = 1
    price: Price | None = None
    uploaded: str = ""
    shard: str = ""

    @property
    def cost(self) -> float | None:
        """Of the tokens of all answers, those of earlier starts included; None without a price."""
        if self.price is None:
            return None
        counts = self.counts
        return (
            counts.input_tokens * self.price.input + counts.output_tokens * self.price.output
        ) / 1e6

    @property
    def exit_code(self) -> ExitCode:
        """The command's exit code; a run stopped by a signal ends by that signal instead."""
        if self.outcome == "stopped" and not self.stopped_by_failures:
            return ExitCode.RUN_AGAIN
        if self.outcome == "sealed":  # the whole run decides, when it is published
            return ExitCode.DONE
        if self.stopped_by_failures or self.too_many_failed:
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
        return FailureLimit(self.limits, self.counts.rows).allowed

    @property
    def error_limit(self) -> str:
        """The stricter of the two limits, such as `run.max_error_rate: 0.01`."""
        return FailureLimit(self.limits, self.counts.rows).key

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
        if self.outcome in ("stopped", "sealed"):
            raise StateError(f"{self.folder.path} is not complete", hint="Run the job again.")
        if self.outcome == "withheld":
            why = why_unfinished(self.folder)
            raise StateError(why.problem, hint=why.hint)
        return PublishedRun(self.folder).frame()
