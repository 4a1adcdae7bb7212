"""Gates on drift: whether the answers of a run differ from those of a baseline by more than chance.

A gate that could not fail, whatever the answers are, is undecided: the prompts are too few for a p below its limit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from batchgen.errors import StateError, UsageError
from batchgen.evaluation.drift.answer_traits import AnswerTraits, open_answers, read_traits
from batchgen.evaluation.drift.measure_drift import Drift, measure_drift
from batchgen.job.evaluate import DriftKind, Gate
from batchgen.metrics.statistics.drift_tests import least_p
from batchgen.metrics.statistics.paired_results import adjust_holm
from batchgen.output.published_run import read_manifest
from batchgen.state.identity import read_identity
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists

PREVIOUS = "previous"
"""Baseline that means: what the folder publishes now."""
_ENOUGH_FOR_ANY = 100
"""Prompts in each run that are enough for any limit and number of gates."""


_DriftByKind = Mapping[DriftKind, Drift]


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The verdict of a gate, and the reason in words."""

    verdict: Literal["passed", "failed", "undecided"]
    found: str


def describe_drift_gate(gate: Gate) -> str:
    """The condition of a gate on drift in words."""
    distance = f" or distance < {gate.min_distance:g}" if gate.min_distance else ""
    return f"drift of {gate.drift} from {gate.baseline}: p >= {gate.max_p:g}{distance}"


def decide_drift_gates(
    gates: Sequence[Gate], folder: RunFolder, scored: Path
) -> list[GateDecision]:
    """Decide gates on drift together, since p is adjusted for their number (Holm). `scored` is as in `decide_gates`."""
    if not gates:
        return []
    kinds = tuple(dict.fromkeys(map(_kind, gates)))
    new = read_traits(open_answers(folder.path, scored), kinds)
    found: dict[str, _DriftByKind | GateDecision] = {
        baseline: _against(baseline, folder, new, kinds)
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
    baseline: str, folder: RunFolder, new: AnswerTraits, kinds: Sequence[DriftKind]
) -> _DriftByKind | GateDecision:
    if baseline == PREVIOUS and not _has_previous(folder):
        return GateDecision("passed", "no previous output to compare with")
    path = folder.path if baseline == PREVIOUS else Path(baseline)
    try:
        base = read_traits(open_answers(path), kinds)
    except (UsageError, StateError) as error:
        return GateDecision("undecided", error.message)
    return {drift.kind: drift for drift in measure_drift(base, new, kinds)}


def _has_previous(folder: RunFolder) -> bool:
    """Whether the folder publishes another run; it publishes this one while that is scored again."""
    if not exists(folder.manifest):
        return False
    identity = read_identity(folder)
    return identity is not None and identity.run_id != read_manifest(folder).run_id


def decide_drift_gate(gate: Gate, drift: Drift, tests: int) -> GateDecision:
    """Decide a gate by a measured drift, whose p is adjusted for the number of `tests`."""
    limit = gate.max_p or 0.0
    if drift.test is None or drift.p is None:
        return GateDecision("undecided", drift.change)
    prompts = f"n {drift.base:,} and {drift.new:,}"
    reason = f"{drift.change}, distance {drift.test.distance:.3g}, p {drift.p:.2g}, {prompts}"
    if drift.p < limit:
        small = drift.test.distance < (gate.min_distance or 0.0)
        return GateDecision("passed" if small else "failed", reason)
    if drift.test.least * tests >= limit:
        enough = _enough_prompts(lambda n: least_p(n, n) * tests < limit)
        reason += f": too few prompts for any p below {limit:g}; {enough} in each run are the least"
        return GateDecision("undecided", reason)
    return GateDecision("passed", reason)


def _enough_prompts(is_enough: Callable[[int], bool]) -> int:
    return next((n for n in range(1, _ENOUGH_FOR_ANY) if is_enough(n)), _ENOUGH_FOR_ANY)
