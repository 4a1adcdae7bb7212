"""The gates of a job, decided by the metrics of a run, and by comparing it with a baseline.

Knows nothing of what becomes of a run that does not pass.
"""

from collections.abc import Sequence
from pathlib import Path

from batchgen.errors import StateError, UsageError
from batchgen.job.evaluate import Gate
from batchgen.metrics.aggregate import EVERYTHING
from batchgen.metrics.gates import GateResult, decide, decide_change, described
from batchgen.records import MetricRow
from batchgen.runner.compare import compare_sides
from batchgen.runner.sides import open_side, side_of
from batchgen.runner.worse import change_of
from batchgen.state.run_folder import RunFolder

PREVIOUS = "previous"
"""The baseline that stands for what a folder publishes now."""


def decide_gates(
    gates: Sequence[Gate], rows: Sequence[MetricRow], folder: RunFolder, scored: Path
) -> list[GateResult]:
    """Decide each gate.

    Args:
        gates: of the job.
        rows: of metrics.parquet.
        folder: of the run; what it publishes is the previous output.
        scored: where the scores are: that folder, or the one that nobody sees yet.
    """
    found = {(row.metric, row.slice): row for row in rows}
    return [
        decide(gate, found.get((gate.metric, gate.slice or EVERYTHING)))
        if gate.baseline is None
        else _against(gate, gate.baseline, folder, scored)
        for gate in gates
    ]


def _against(gate: Gate, baseline: str, folder: RunFolder, scored: Path) -> GateResult:
    if baseline == PREVIOUS and not folder.manifest.exists():
        return GateResult(described(gate), "passed", "there is no previous output")
    path = folder.path if baseline == PREVIOUS else Path(baseline)
    try:
        new = side_of(folder.path, scored)
        found = compare_sides(open_side(path), new, metrics=[gate.metric], named=0)
    except (UsageError, StateError) as error:
        return GateResult(described(gate), "undecided", error.message)
    (one,) = found.metrics
    if one.reason:
        return GateResult(described(gate), "undecided", one.reason)
    return decide_change(gate, change_of(one))
