"""Gates: whether the metrics and the answers of a run are good enough. Each gate passes, fails, or is undecided.

An undecided gate counts as failed, because output must not be replaced on a guess. Its result gives the number of rows
that would decide it. A gate on a metric that scored fewer than 95 % of its rows fails, because the others may all be bad;
`min_coverage` sets another share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchgen.errors import StateError, UsageError
from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.agreement.gate_agreement import why_no_agreement
from batchgen.evaluation.comparing.compare import compare_runs
from batchgen.evaluation.comparing.regressions import (
    MIN_COVERAGE,
    MeasuredChange,
    enough_pairs,
    measured_change,
    why_no_interval,
)
from batchgen.evaluation.comparing.scored_run import open_scored_run
from batchgen.evaluation.drift.drift_gates import (
    PREVIOUS,
    decide_drift_gates,
    describe_drift_gate,
)
from batchgen.job.evaluate import Gate
from batchgen.metrics.statistics.paired_results import POWER_80
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists

GateStatus = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True, slots=True)
class GateResult:
    """The decision of a gate: the gate in words, such as "exact >= 0.6", and the reason in words."""

    gate: str
    verdict: GateStatus
    found: str

    @property
    def passed(self) -> bool:
        """False for an undecided gate."""
        return self.verdict == "passed"


def describe_gate(gate: Gate) -> str:
    """The condition of a gate in words."""
    if gate.drift is not None:
        return describe_drift_gate(gate)
    where = f"{gate.metric}{f' ({gate.slice})' if gate.slice else ''}"
    least = "" if gate.min_coverage is None else f"coverage >= {gate.min_coverage:g}"
    if gate.only_coverage:
        return f"{where}: {least}"
    if gate.max_drop is not None:
        condition = f"{where}: no more than {gate.max_drop:g} worse than {gate.baseline}"
    else:
        what = where if gate.on == "value" else f"{where} {gate.on}"
        bounds = [f">= {gate.min:g}"] if gate.min is not None else []
        bounds += [f"<= {gate.max:g}"] if gate.max is not None else []
        condition = f"{what} {' and '.join(bounds)}"
    agreement = "" if gate.min_agreement is None else f"agreement >= {gate.min_agreement:g}"
    return ", ".join(filter(None, (condition, least, agreement)))


def decide_gate(gate: Gate, measured: MetricRow | None) -> GateResult:
    """Decide a gate on value, interval or coverage. `measured` is None where there is no such slice."""
    uncovered = _check_coverage(gate, measured)
    if uncovered is not None or measured is None:
        return uncovered or GateResult(describe_gate(gate), "undecided", "no such metric")
    if gate.only_coverage:
        return GateResult(describe_gate(gate), "passed", f"coverage {measured.coverage:.4g}")
    return _bounds(gate, measured)


def _check_coverage(gate: Gate, measured: MetricRow | None) -> GateResult | None:
    """The result of a gate on a metric that scored too few rows; None if it scored enough."""
    name = describe_gate(gate)
    if measured is None:
        return GateResult(name, "undecided", f"the scores have no slice {gate.slice or OVERALL!r}")
    if measured.coverage is None:
        return GateResult(name, "undecided", "there are no rows to score")
    least = MIN_COVERAGE if gate.min_coverage is None else gate.min_coverage
    if measured.coverage >= least:
        return None
    found = f"coverage {measured.coverage:.4g}"
    if gate.min_coverage is None:
        found += f", below {least:g}: set the gate's min_coverage if fewer scores are enough"
    return GateResult(name, "failed", found)


def _bounds(gate: Gate, measured: MetricRow) -> GateResult:
    def within(value: float) -> bool:
        return (gate.min is None or value >= gate.min) and (gate.max is None or value <= gate.max)

    name = describe_gate(gate)
    bounds = {"value": measured.value, "ci_low": measured.ci_low, "ci_high": measured.ci_high}
    bound = bounds[gate.on]
    if bound is None or measured.value is None:
        why = measured.method.removeprefix("none: ")
        return GateResult(name, "undecided", f"no {gate.on}: {why}")
    reason = f"{gate.on} {bound:.4g}, n {measured.n:,}"
    if within(bound):
        return GateResult(name, "passed", reason)
    if within(measured.value):
        reason = f"value {measured.value:.4g} would pass, {gate.on} {bound:.4g} does not"
        return GateResult(name, "undecided", f"{reason}: {measured.n:,} rows are too few to decide")
    return GateResult(name, "failed", reason)


def decide_baseline_gate(gate: Gate, change: MeasuredChange) -> GateResult:
    """Decide a gate against a baseline: it passes only if the interval excludes a loss above max_drop."""
    name, allowed = describe_gate(gate), gate.max_drop or 0.0
    if change.gain is None or change.low is None or change.high is None:
        return GateResult(name, "undecided", why_no_interval(change))
    interval = f"interval {change.low:+.4g} to {change.high:+.4g}"
    reason = f"change {change.gain:+.4g}, {interval}, n {change.n:,}"
    if change.low >= -allowed:
        return GateResult(name, "passed", reason)
    if change.high < -allowed:
        return GateResult(name, "failed", reason)
    reason += ": too few rows to decide"
    if change.reach is not None:
        reason += f"; {enough_pairs(change, allowed)}"
    elif allowed and change.stderr is not None:
        needed = math.ceil(change.n * (POWER_80 * change.stderr / allowed) ** 2)
        reason += f"; about {max(needed, change.n + 1):,} would be enough"
    return GateResult(name, "undecided", reason)


def decide_gates(
    gates: Sequence[Gate], rows: Sequence[MetricRow], folder: RunFolder, scored: Path
) -> list[GateResult]:
    """Decide each gate of a run by the rows of metrics.parquet, and by its answers.

    `scored` is the folder with the scores: `folder`, which publishes the previous output, or its staging folder.
    """
    by_name = {(row.metric, row.slice): row for row in rows}
    drifts = iter(decide_drift_gates([gate for gate in gates if gate.drift], folder, scored))
    results = []
    for gate in gates:
        if gate.metric is None:
            drift = next(drifts)
            results.append(GateResult(describe_gate(gate), drift.verdict, drift.found))
            continue
        if distrust := why_no_agreement(gate, gate.metric, by_name, folder=folder, scored=scored):
            results.append(GateResult(describe_gate(gate), "undecided", distrust))
            continue
        measured = by_name.get((gate.metric, gate.slice or OVERALL))
        if gate.baseline is None:
            results.append(decide_gate(gate, measured))
        else:
            results.append(
                _check_coverage(gate, measured)
                or _against(gate, gate.metric, gate.baseline, folder=folder, scored=scored)
            )
    return results


def _against(
    gate: Gate, metric: str, baseline: str, *, folder: RunFolder, scored: Path
) -> GateResult:
    name = describe_gate(gate)
    if baseline == PREVIOUS and not exists(folder.manifest):
        return GateResult(name, "passed", "no previous output to compare with")
    path = folder.path if baseline == PREVIOUS else Path(baseline)
    try:
        new = open_scored_run(folder.path, scored)
        comparison = compare_runs(open_scored_run(path), new, metrics=[metric], max_examples=0)
    except (UsageError, StateError) as error:
        return GateResult(name, "undecided", error.message)
    (one,) = comparison.metrics
    if one.reason:
        return GateResult(name, "undecided", one.reason)
    return decide_baseline_gate(gate, measured_change(one))
