"""Gates: passed, failed and undecided."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from batchgen.evaluation.comparing.regressions import MeasuredChange
from batchgen.evaluation.gates import decide_baseline_gate, decide_gate, gate_condition
from batchgen.evaluation.gating.gate_facts import ENGLISH
from batchgen.job.evaluate import Gate
from batchgen.records import MetricRow

ROW = MetricRow(
    metric="exact",
    slice="all",
    value=0.7,
    n=100,
    coverage=0.96,
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
        ({"min_coverage": 0.96}, ROW, "passed", "coverage 0.96"),
        ({"min_coverage": 0.97}, ROW, "failed", "coverage 0.96"),
        ({"min_coverage": 0.9}, replace(ROW, coverage=None), "undecided", "no row"),
        ({"min": 0.1, "slice": "lang=zh"}, None, "undecided", "the scores have no slice 'lang=zh'"),
        ({"min": 0.1}, replace(ROW, coverage=0.94), "failed", "coverage 0.94, below 0.95: set"),
        ({"max": 0.9}, replace(ROW, coverage=0.1), "failed", "min_coverage"),
        ({"min": 0.1, "on": "ci_low"}, replace(ROW, coverage=0.5), "failed", "coverage 0.5"),
        ({"min": 0.1}, replace(ROW, coverage=0.95), "passed", "value 0.7"),
        ({"min": 0.1, "min_coverage": 0.1}, replace(ROW, coverage=0.1), "passed", "value 0.7"),
        ({"min": 0.1, "min_coverage": 0}, replace(ROW, coverage=0.0), "passed", "value 0.7"),
        ({"min": 0.1, "min_coverage": 0.99}, ROW, "failed", "coverage 0.96"),
        ({"min": 0.8, "min_coverage": 0.1}, ROW, "failed", "value 0.7"),
        ({"min": 0.1}, replace(ALONE, value=None, n=0, coverage=0.0), "failed", "coverage 0"),
        ({"min": 0.1}, replace(ALONE, value=None, n=0, coverage=None), "undecided", "no rows"),
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
    ("gate", "words"),
    [
        ({"min": 0.5, "min_coverage": 0.8}, "exact >= 0.5, coverage >= 0.8"),
        ({"min_coverage": 0.8}, "exact: coverage >= 0.8"),
        ({"baseline": "old", "max_drop": 0, "min_coverage": 0.8}, "exact: no more than 0 worse than old, coverage >= 0.8"),
    ],
)  # fmt: skip
def test_a_gate_with_its_own_coverage_is_described_with_it(
    gate: dict[str, Any], words: str
) -> None:
    assert ENGLISH.condition(gate_condition(Gate(metric="exact", **gate))) == words


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ({}, "needs a condition"),
        ({"min_coverage": 0}, "no effect without another condition"),
        ({"min": 0.5, "baseline": "old", "max_drop": 0.1}, "write two gates"),
        ({"min_coverage": 1.1}, "less than or equal to 1"),
    ],
)
def test_gates_that_are_refused(gate: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Gate(metric="exact", **gate)


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
        # Rule of three: 3 / (0.1 - 0.05) pairs.
        pytest.param(
            MeasuredChange(-0.05, -0.25, 0.15, 0.0, 15, reach=3.0),
            "undecided",
            "60 such pairs would rule it out",
            id="equal differences",
        ),
        pytest.param(
            MeasuredChange(-0.1, -1.0, 0.9, 0.0, 3, reach=3.0),
            "undecided",
            "no number of such pairs",
            id="equal losses of all that is allowed",
        ),
        pytest.param(
            MeasuredChange(-3.0, None, None, None, 9, method="none: no range"),
            "undecided",
            "no range",
            id="equal differences without a range",
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
