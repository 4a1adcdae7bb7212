"""Gates on drift: whether the answers of a run differ from those of a baseline by more than chance.

A gate that could not fail, whatever the answers are, is undecided: the prompts are too few for a p below its limit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from batchgen.errors import StateError, UsageError
from batchgen.evaluation.drift.answer_traits import AnswerTraits, open_answers, read_traits
from batchgen.evaluation.drift.measure_drift import Drift, measure_drift
from batchgen.evaluation.gating.gate_facts import ENGLISH, Fact, fact
from batchgen.evaluation.gating.previous_run import PREVIOUS
from batchgen.job.evaluate import DriftKind, Gate
from batchgen.metrics.statistics.drift_tests import DriftTest, least_p
from batchgen.metrics.statistics.paired_results import adjust_holm
from batchgen.state.run_folder import RunFolder

_ENOUGH_FOR_ANY = 100
"""Prompts in each run that are enough for any limit and number of gates."""


_DriftByKind = Mapping[DriftKind, Drift]


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The verdict of a gate, and what was found."""

    verdict: Literal["passed", "failed", "undecided"]
    facts: Sequence[Fact]

    @property
    def found(self) -> str:
        """What was found, in words."""
        return ENGLISH.finding(self.facts)


def drift_condition(gate: Gate) -> Fact:
    """The condition of a gate on drift."""
    values = {"kind": gate.drift, "baseline": gate.baseline, "max_p": gate.max_p}
    if not gate.min_distance:
        return fact("drift", **values)
    return fact("drift_or_distance", **values, min_distance=gate.min_distance)


def decide_drift_gates(
    gates: Sequence[Gate], folder: RunFolder, scored: Path, previous: Path | None
) -> list[GateDecision]:
    """Decide gates on drift together, since p is adjusted for their number (Holm).

    `scored` is as in `decide_gates`, `previous` the folder of the run before; None if there is none.
    """
    if not gates:
        return []
    kinds = tuple(dict.fromkeys(map(_kind, gates)))
    new = read_traits(open_answers(folder.path, scored), kinds)
    found: dict[str, _DriftByKind | GateDecision] = {
        baseline: _against(previous if baseline == PREVIOUS else Path(baseline), new, kinds)
        for baseline in dict.fromkeys(str(gate.baseline) for gate in gates)
    }
    drifts = [_of_gate(gate, found[str(gate.baseline)]) for gate in gates]
    raw = [one.test.p if isinstance(one, Drift) and one.test else None for one in drifts]
    tests = sum(p is not None for p in raw)
    return [
        decide_drift_gate(gate, replace(one, p=p), tests) if isinstance(one, Drift) else one
        for gate, one, p in zip(gates, drifts, adjust_holm(raw), strict=True)
    ]


def _kind(gate: Gate) -> DriftKind:
    if gate.drift is None:
        raise ValueError("not a gate on drift")
    return gate.drift


def _of_gate(gate: Gate, found: _DriftByKind | GateDecision) -> Drift | GateDecision:
    return found if isinstance(found, GateDecision) else found[_kind(gate)]


def _against(
    path: Path | None, new: AnswerTraits, kinds: Sequence[DriftKind]
) -> _DriftByKind | GateDecision:
    if path is None:
        return GateDecision("passed", [fact("no_previous")])
    try:
        base = read_traits(open_answers(path), kinds)
    except (UsageError, StateError) as error:
        return GateDecision("undecided", [fact("text", text=error.message)])
    return {drift.kind: drift for drift in measure_drift(base, new, kinds)}


def decide_drift_gate(gate: Gate, drift: Drift, tests: int) -> GateDecision:
    """Decide a gate by a measured drift, whose p is adjusted for the number of `tests`."""
    limit = gate.max_p or 0.0
    if drift.test is None or drift.p is None:
        return GateDecision("undecided", [drift.why] if drift.why else [])
    found = _measured(drift, drift.test, drift.p)
    if drift.p < limit:
        small = drift.test.distance < (gate.min_distance or 0.0)
        return GateDecision("passed" if small else "failed", [found])
    if drift.test.least * tests >= limit:
        enough = _enough_prompts(lambda n: least_p(n, n) * tests < limit)
        return GateDecision(
            "undecided", [found, fact("too_few_prompts", limit=limit, prompts=enough)]
        )
    return GateDecision("passed", [found])


def _measured(drift: Drift, test: DriftTest, p: float) -> Fact:
    numbers: dict[str, Any] = {
        "distance": test.distance,
        "p": p,
        "base": drift.base,
        "new": drift.new,
    }
    if drift.kind == "length":
        (median,) = drift.values
        return fact("drift_length", before=median.before, now=median.now, **numbers)
    return fact("drift_shares", changes=[asdict(one) for one in drift.values], **numbers)


def _enough_prompts(is_enough: Callable[[int], bool]) -> int:
    return next((n for n in range(1, _ENOUGH_FOR_ANY) if is_enough(n)), _ENOUGH_FOR_ANY)
