"""Gates on drift: verdicts, what is printed, a sequence of runs whose prompts change, and what blocks a publication."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from batchgen.errors import ExitCode, JobFileError
from batchgen.evaluation.drift.drift_gates import decide_drift_gate, drift_condition
from batchgen.evaluation.drift.measure_drift import ChangedValue, Drift
from batchgen.evaluation.gating.gate_facts import ENGLISH
from batchgen.evaluation.scoring.score import score
from batchgen.job.evaluate import Gate
from batchgen.jobfile.load import load_job
from batchgen.metrics.statistics.drift_tests import DriftTest
from batchgen.report.exchange.junit import gates_junit
from batchgen.report.exchange.markdown import gates_markdown
from batchgen.run.preflight.input_check import check_input
from batchgen.run.result import RunResult
from batchgen.run.run import run

MakeJob = Callable[..., Path]
Night = Callable[..., RunResult]

KINDS = ("length", "finish_reason", "refusal", "language", "duplicates")
GATE = Gate(drift="length", max_p=0.01, baseline="previous")
TEST = DriftTest(p=0.5, distance=0.3, test="", least=1e-9)
DRIFT = Drift("length", 40, 50, [ChangedValue("", 80, 96)], TEST)


def gates(*kinds: str, **keys: Any) -> list[dict[str, Any]]:
    return [{"drift": kind, "max_p": 0.01, "baseline": "previous", **keys} for kind in kinds]


def test_a_gate_is_described_by_its_condition() -> None:
    assert ENGLISH.word(drift_condition(GATE)) == "drift of length from previous: p >= 0.01"
    wide = GATE.model_copy(update={"min_distance": 0.2})
    assert (
        ENGLISH.word(drift_condition(wide))
        == "drift of length from previous: p >= 0.01 or distance < 0.2"
    )


@pytest.mark.parametrize(
    ("gate", "p", "least", "tests", "verdict", "words"),
    [
        ({}, 0.5, 1e-9, 1, "passed", "median 80 -> 96 characters, distance 0.3, p 0.5, n 40 and 50"),
        ({}, 0.0099, 1e-9, 1, "failed", "p 0.0099"),
        ({}, 0.01, 1e-9, 1, "passed", "p 0.01"),
        ({"min_distance": 0.31}, 0.001, 1e-9, 1, "passed", "distance 0.3"),
        ({"min_distance": 0.3}, 0.001, 1e-9, 1, "failed", "distance 0.3"),
        ({}, 0.1, 0.1, 1, "undecided", "too few prompts for any p below 0.01; 5 in each run are the least"),
        ({}, 0.1, 0.003, 1, "passed", "p 0.1"),
        ({}, 0.1, 0.003, 5, "undecided", "too few prompts for any p below 0.01; 7 in each run"),
        ({"max_p": 0.2}, 0.3, 0.1, 1, "passed", "p 0.3"),
    ],
)  # fmt: skip
def test_verdicts(
    gate: dict[str, Any], p: float, least: float, tests: int, verdict: str, words: str
) -> None:
    drift = replace(DRIFT, p=p, test=replace(TEST, p=p, least=least))
    found = decide_drift_gate(GATE.model_copy(update=gate), drift, tests)
    assert found.verdict == verdict
    assert words in found.found


def test_without_answers_a_gate_is_undecided() -> None:
    nothing = Drift("refusal", 3, 0, (), None)
    found = decide_drift_gate(GATE, nothing, 0)
    assert (found.verdict, found.found) == ("undecided", "the new run has no answer to measure")


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ({"drift": "length"}, "drift needs max_p and baseline"),
        ({"drift": "length", "max_p": 0.01}, "drift needs max_p and baseline"),
        ({"drift": "lengths", "max_p": 0.01, "baseline": "old"}, "'length', 'finish_reason'"),
        ({"drift": "length", "max_p": 0.004, "baseline": "old"}, "greater than or equal"),
        ({"drift": "length", "max_p": 0.01, "baseline": "old", "slice": "a=b"}, "slice has no effect"),
        ({"drift": "length", "max_p": 0.01, "baseline": "old", "min": 0}, "min has no effect"),
        ({"drift": "length", "max_p": 0.01, "baseline": "old", "on": "ci_low"}, "on has no effect"),
        ({"drift": "length", "max_p": 0.01, "baseline": "old", "metric": "exact"}, "either metric or drift"),
        ({"metric": "exact", "min": 0, "max_p": 0.01}, "max_p has no effect without drift"),
        ({"min": 0.5}, "either metric or drift"),
    ],
)  # fmt: skip
def test_gates_that_are_refused(gate: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Gate.model_validate(gate)


def test_a_baseline_that_is_no_run_is_an_error_at_its_line(make_job: MakeJob) -> None:
    evaluate = {"gates": gates("length", baseline="nowhere")}
    with pytest.raises(JobFileError) as caught:
        check_input(load_job(make_job(evaluate=evaluate)))
    (problem,) = caught.value.problems
    assert problem.key == "evaluate.gates[0].baseline"
    assert problem.line is not None
    assert "is not the output folder of a complete run" in problem.message
    assert problem.hint == "Give the output folder of a run that has ended."


@pytest.fixture
def night(make_job: MakeJob) -> Night:
    """Run a job on texts, which the echo engine answers, with gates on drift alone, into one folder."""

    def ran(texts: Sequence[str], *, fresh: bool = True, **sections: Any) -> RunResult:
        rows = [{"id": f"r{n}", "q": text} for n, text in enumerate(texts)]
        sections.setdefault("evaluate", {"gates": gates(*KINDS)})
        sections.setdefault("output", {"path": "out", "publish": "gated"})
        job = load_job(make_job(rows, **sections))
        return run(job, start="fresh" if fresh else "resume")

    return ran


def texts(seed: int, words: int = 12, *, count: int = 80) -> list[str]:
    """Random sentences of up to 2 x `words` words."""
    random = np.random.default_rng(seed)
    known = ["please", "help", "order", "number", "refund", "late", "thanks", "again"]
    return [" ".join(random.choice(known, random.integers(1, 2 * words))) for _ in range(count)]


def test_a_run_without_a_previous_one_passes(night: Night) -> None:
    result = night(texts(0))
    assert [gate.verdict for gate in result.gates] == ["passed"] * 5
    assert {gate.found for gate in result.gates} == {"no previous output to compare with"}


def test_other_prompts_of_the_same_kind_do_not_drift(night: Night) -> None:
    night(texts(0))
    second = night(texts(1))
    assert (second.outcome, second.exit_code) == ("done", ExitCode.DONE)
    assert [gate.verdict for gate in second.gates] == ["passed"] * 5
    recorded = json.loads(second.folder.manifest.read_text())["evaluation"]["gates"]
    assert [one["verdict"] for one in recorded] == ["passed"] * 5


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        pytest.param("length", texts(1, 4), id="shorter"),
        pytest.param("refusal", [f"I cannot help with {n} of these." for n in range(80)], id="refusals"),
        pytest.param("language", [f"请尽快处理第 {n} 个订单，谢谢" for n in range(80)], id="Chinese"),
        pytest.param("duplicates", texts(1, count=8) * 10, id="copies"),
    ],
)  # fmt: skip
def test_what_drifts_is_not_published(night: Night, kind: str, changed: list[str]) -> None:
    night(texts(0))
    result = night(changed)
    assert (result.outcome, result.exit_code) == ("withheld", ExitCode.GATE_FAILED)
    verdicts = dict(zip(KINDS, (gate.verdict for gate in result.gates), strict=True))
    assert verdicts[kind] == "failed"
    assert pl.read_parquet(result.folder.responses)["q"].to_list() == texts(0)
    again = night(changed, fresh=False)
    assert [gate.verdict for gate in again.gates] == list(verdicts.values())


def test_finish_reasons_drift(night: Night) -> None:
    night(texts(0))
    limited = {"max_new_tokens": 30}
    result = night(texts(1), decoding=limited, evaluate={"gates": gates("finish_reason")})
    assert result.outcome == "withheld"
    assert "length 0.0 % -> " in result.gates[0].found


def test_few_prompts_are_undecided_and_not_published(night: Night) -> None:
    evaluate = {"gates": gates("length")}
    night(["one", "two", "three"], evaluate=evaluate)
    result = night(["four", "five", "six"], evaluate=evaluate)
    assert result.outcome == "withheld"
    assert result.gates[0].verdict == "undecided"
    assert (
        "too few prompts for any p below 0.01; 5 in each run are the least" in result.gates[0].found
    )


def test_a_baseline_in_another_folder(night: Night, tmp_path: Path) -> None:
    night(texts(0), output={"path": "good"}, evaluate={})
    gate = gates("length", baseline="good")
    result = night(texts(1), output={"path": "new"}, evaluate={"gates": gate})
    assert (result.gates[0].verdict, result.exit_code) == ("passed", ExitCode.DONE)
    assert result.gates[0].gate == f"drift of length from {tmp_path / 'good'}: p >= 0.01"


def test_samples_of_one_prompt_count_once(night: Night) -> None:
    evaluate = {"gates": gates("length", "finish_reason")}
    several = {"num_return_sequences": 3, "temperature": 1.0}
    night(texts(0), decoding=several, evaluate=evaluate)
    result = night(texts(1), decoding=several, evaluate=evaluate)
    assert all(gate.found.endswith("n 80 and 80") for gate in result.gates)


def test_scoring_again_compares_with_no_previous_run(night: Night) -> None:
    evaluate = {"metrics": ["length"], "gates": gates("length")}
    done = night(["one", "two", "three"], evaluate=evaluate)
    again = score(done.folder.path)
    assert [gate.found for gate in again.gates] == ["no previous output to compare with"]


def test_drift_in_markdown_and_junit(night: Night) -> None:
    night(texts(0))
    result = night(texts(1, 4))
    text = gates_markdown("job", result.gates, result.metrics)
    assert "| **failed** | drift of length from previous: p &#62;= 0.01 | median" in text
    failures = ET.fromstring(gates_junit("job", result.gates)).iter("failure")
    assert any(str(one.get("message")).startswith("failed: median") for one in failures)
