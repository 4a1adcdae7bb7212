"""Gates: passed, failed and undecided."""

from dataclasses import replace
from typing import Any

import pytest

from batchgen.evaluation.comparing.regressions import MeasuredChange
from batchgen.evaluation.gates import decide_baseline_gate, decide_gate
from batchgen.job.evaluate import Gate
from batchgen.records import MetricRow

ROW = MetricRow(
    metric="exact",
    slice="all",
    value=0.7,
    n=100,
    coverage=0.9,
    stderr=0.05,
    ci_low=0.6,
    ci_high=0.8,
    ci_level=0.95,
    method="wilson",
    unit="fraction",
    higher_is_better=True,
    primary=True,
    fingerprint="",
    seed=None,
)
ALONE = replace(
    ROW, n=1, stderr=None, ci_low=None, ci_high=None, method="none: one row gives no spread"
)


@pytest.mark.parametrize(
    ("gate", "row", "verdict", "words"),
    [
        ({"min": 0.7}, ROW, "passed", "value 0.7, n 100"),
        ({"min": 0.71}, ROW, "failed", "value 0.7, n 100"),
        ({"max": 0.7}, ROW, "passed", "value 0.7"),
        ({"min": 0.5, "max": 0.6}, ROW, "failed", "value 0.7"),
        ({"min": 0.6, "on": "ci_low"}, ROW, "passed", "ci_low 0.6"),
        ({"min": 0.65, "on": "ci_low"}, ROW, "undecided", "100 rows are too few to decide"),
        ({"min": 0.75, "on": "ci_low"}, ROW, "failed", "ci_low 0.6"),
        ({"max": 0.75, "on": "ci_high"}, ROW, "undecided", "too few"),
        ({"min": 0.75, "on": "ci_high"}, ROW, "passed", "ci_high 0.8"),
        ({"min": 0.1, "on": "ci_low"}, ALONE, "undecided", "no ci_low: one row gives no spread"),
        ({"min": 0.1}, ALONE, "passed", "n 1"),
        ({"min": 0.1}, replace(ALONE, value=None, n=0), "undecided", "no value"),
        ({"min_coverage": 0.9}, ROW, "passed", "coverage 0.9"),
        ({"min_coverage": 0.91}, ROW, "failed", "coverage 0.9"),
        ({"min_coverage": 0.9}, replace(ROW, coverage=None), "undecided", "no row"),
        ({"min": 0.1, "slice": "lang=zh"}, None, "undecided", "the scores have no slice 'lang=zh'"),
    ],
)
def test_verdicts(gate: dict[str, Any], row: MetricRow | None, verdict: str, words: str) -> None:
    found = decide_gate(Gate(metric="exact", **gate), row)
    assert found.verdict == verdict
    assert found.passed == (verdict == "passed")
    assert words in found.found


def test_a_gate_is_described_by_its_condition() -> None:
    gate = Gate(metric="exact", slice="lang=zh", min=0.5, max=1, on="ci_low")
    assert decide_gate(gate, None).gate == "exact (lang=zh) ci_low >= 0.5 and <= 1"


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        pytest.param(MeasuredChange(0.0, -0.05, 0.05, 0.025, 40), "passed", "n 40", id="ruled out"),
        pytest.param(
            MeasuredChange(-0.02, -0.1, 0.06, 0.04, 40), "passed", "-0.1", id="just ruled out"
        ),
        pytest.param(MeasuredChange(-0.3, -0.4, -0.2, 0.05, 40), "failed", "-0.3", id="a loss"),
        # 40 x (2.8 x 0.05 / 0.1) squared = 78.4.
        pytest.param(
            MeasuredChange(-0.05, -0.15, 0.05, 0.05, 40),
            "undecided",
            "about 79 would be enough",
            id="too few",
        ),
        pytest.param(
            MeasuredChange(0.2, None, None, None, 1), "undecided", "1 rows", id="no interval"
        ),
    ],
)
def test_a_loss_above_max_drop_must_be_ruled_out(
    change: MeasuredChange, verdict: str, words: str
) -> None:
    gate = Gate(metric="exact", baseline="base", max_drop=0.1)
    found = decide_baseline_gate(gate, change)
    assert found.verdict == verdict
    assert words in found.found
