"""Gates: whether the metrics and the answers of a run are good enough. Each gate passes, fails, or is undecided.

An undecided gate counts as failed, because output must not be replaced on a guess. Its result gives the number of rows
that would decide it. A gate on a metric that scored fewer than 95 % of its rows fails, because the others may all be bad;
`min_coverage` sets another share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
from batchgen.evaluation.drift.drift_gates import decide_drift_gates, drift_condition
from batchgen.evaluation.gating.gate_facts import ENGLISH, Fact, fact
from batchgen.evaluation.gating.previous_run import PREVIOUS, published_before
from batchgen.job.evaluate import Gate
from batchgen.metrics.statistics.paired_results import POWER_80
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists

GateStatus = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True, slots=True)
class GateResult:
    """The decision of a gate: its condition and what was found, as facts and in English words."""

    condition: Sequence[Fact]
    verdict: GateStatus
    facts: Sequence[Fact]

    @property
    def gate(self) -> str:
        """The condition in words, such as "exact >= 0.6"."""
        return ENGLISH.condition(self.condition)

    @property
    def found(self) -> str:
        """The reason in words."""
        return ENGLISH.finding(self.facts)

    @property
    def passed(self) -> bool:
        """False for an undecided gate."""
        return self.verdict == "passed"

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "gate": self.gate,
            "verdict": self.verdict,
            "found": self.found,
            "condition": [one.plain() for one in self.condition],
            "facts": [one.plain() for one in self.facts],
        }


def gate_condition(gate: Gate) -> list[Fact]:
    """The condition of a gate."""
    if gate.drift is not None:
        return [drift_condition(gate)]
    where = {"metric": gate.metric, "slice": gate.slice}
    if gate.only_coverage:
        return [fact("only_coverage", **where, min_coverage=gate.min_coverage)]
    if gate.max_drop is not None:
        drop = {"max_drop": gate.max_drop, "baseline": gate.baseline}
        facts = [fact("max_drop", **where, **drop)]
    else:
        bounds = {"min": gate.min, "max": gate.max}
        given = {key: bound for key, bound in bounds.items() if bound is not None}
        code = "between" if len(given) == 2 else "at_least" if "min" in given else "at_most"
        facts = [fact(code, **where, on=gate.on, **given)]
    if gate.min_coverage is not None:
        facts.append(fact("min_coverage", min_coverage=gate.min_coverage))
    if gate.min_agreement is not None:
        facts.append(fact("min_agreement", min_agreement=gate.min_agreement))
    return facts


def _result(gate: Gate, verdict: GateStatus, *facts: Fact) -> GateResult:
    return GateResult(gate_condition(gate), verdict, facts)


def decide_gate(gate: Gate, measured: MetricRow | None) -> GateResult:
    """Decide a gate on value, interval or coverage. `measured` is None where there is no such slice."""
    uncovered = _check_coverage(gate, measured)
    if uncovered is not None or measured is None:
        return uncovered or _result(gate, "undecided", fact("no_metric"))
    if gate.only_coverage:
        return _result(gate, "passed", fact("coverage", coverage=measured.coverage))
    return _bounds(gate, measured)


def _check_coverage(gate: Gate, measured: MetricRow | None) -> GateResult | None:
    """The result of a gate on a metric that scored too few rows; None if it scored enough."""
    if measured is None:
        return _result(gate, "undecided", fact("no_slice", slice=gate.slice or OVERALL))
    if measured.coverage is None:
        return _result(gate, "undecided", fact("no_rows"))
    least = MIN_COVERAGE if gate.min_coverage is None else gate.min_coverage
    if measured.coverage >= least:
        return None
    if gate.min_coverage is None:
        low = fact("coverage_low", coverage=measured.coverage, least=least)
    else:
        low = fact("coverage", coverage=measured.coverage)
    return _result(gate, "failed", low)


def _bounds(gate: Gate, measured: MetricRow) -> GateResult:
    def within(value: float) -> bool:
        return (gate.min is None or value >= gate.min) and (gate.max is None or value <= gate.max)

    bounds = {"value": measured.value, "ci_low": measured.ci_low, "ci_high": measured.ci_high}
    bound, value, n = bounds[gate.on], measured.value, measured.n
    if bound is None or value is None:
        why = measured.method.removeprefix("none: ")
        return _result(gate, "undecided", fact("no_value", on=gate.on, why=why))
    found = fact("measured", on=gate.on, value=bound, n=n)
    if within(bound):
        return _result(gate, "passed", found)
    if within(value):
        found = fact("only_value_passes", value=value, on=gate.on, bound=bound, n=n)
        return _result(gate, "undecided", found)
    return _result(gate, "failed", found)


def decide_baseline_gate(gate: Gate, change: MeasuredChange) -> GateResult:
    """Decide a gate against a baseline: it passes only if the interval excludes a loss above max_drop."""
    allowed, n = gate.max_drop or 0.0, change.n
    if change.gain is None or change.low is None or change.high is None:
        why = why_no_interval(change)
        found = fact("no_interval", why=why) if change.method else fact("no_interval_of_rows", n=n)
        return _result(gate, "undecided", found)
    found = fact("changed", gain=change.gain, low=change.low, high=change.high, n=n)
    if change.low >= -allowed:
        return _result(gate, "passed", found)
    if change.high < -allowed:
        return _result(gate, "failed", found)
    facts = [found, fact("too_few_rows")]
    if change.reach is not None:
        facts.append(enough_pairs(change, allowed))
    elif allowed and change.stderr is not None:
        needed = math.ceil(n * (POWER_80 * change.stderr / allowed) ** 2)
        facts.append(fact("enough_rows", rows=max(needed, n + 1)))
    return _result(gate, "undecided", *facts)


def decide_gates(
    gates: Sequence[Gate],
    rows: Sequence[MetricRow],
    folder: RunFolder,
    scored: Path,
    *,
    before: Path | None = None,
) -> list[GateResult]:
    """Decide each gate of a run by the rows of metrics.parquet, and by its answers.

    `scored` is the folder with the scores: `folder`, which publishes the previous output, or its staging folder.
    `before` is the run of an earlier day, which `previous` means where `folder` publishes no other run.
    """
    by_name = {(row.metric, row.slice): row for row in rows}
    before = published_before(folder) or before
    drifting = [gate for gate in gates if gate.drift]
    drifts = iter(decide_drift_gates(drifting, folder, scored, before))
    # Scores may also be compared with those that the run published before it was scored again.
    previous = before or (folder.path if exists(folder.manifest) else None)
    results = []
    for gate in gates:
        if gate.metric is None:
            drift = next(drifts)
            results.append(_result(gate, drift.verdict, *drift.facts))
            continue
        there = previous or folder.path
        if distrust := why_no_agreement(gate, gate.metric, by_name, scored=scored, previous=there):
            results.append(_result(gate, "undecided", distrust))
            continue
        measured = by_name.get((gate.metric, gate.slice or OVERALL))
        if gate.baseline is None:
            results.append(decide_gate(gate, measured))
            continue
        path = previous if gate.baseline == PREVIOUS else Path(gate.baseline)
        uncovered = _check_coverage(gate, measured)
        results.append(uncovered or _against(gate, path, folder=folder, scored=scored))
    return results


def _against(gate: Gate, baseline: Path | None, *, folder: RunFolder, scored: Path) -> GateResult:
    if baseline is None:
        return _result(gate, "passed", fact("no_previous"))
    try:
        new, metrics = open_scored_run(folder.path, scored), [str(gate.metric)]
        comparison = compare_runs(open_scored_run(baseline), new, metrics=metrics, max_examples=0)
    except (UsageError, StateError) as error:
        return _result(gate, "undecided", fact("text", text=error.message))
    (one,) = comparison.metrics
    if one.reason:
        return _result(gate, "undecided", fact("not_comparable", why=one.reason))
    return decide_baseline_gate(gate, measured_change(one))
