"""Gates in both languages: each fact has a sentence in each, with the same values; manifests of older versions stay readable."""

import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchgen.evaluation.gating.gate_facts import CONDITIONS, ENGLISH, FINDINGS, Fact, read_facts
from batchgen.metrics.statistics.agreement import NO_SPREAD, NO_UNITS
from batchgen.metrics.statistics.intervals import EQUAL_VALUES, NO_DATA, TOO_LARGE
from batchgen.metrics.statistics.paired_results import NO_PAIRS
from batchgen.report.translation.gate_sentences import CHINESE, GATE_SENTENCES, gate_texts
from batchgen.report.translation.reasons import REASONS, chinese_reason
from batchgen.report.write_report import write_report

MakeRun = Callable[..., Path]

SENTENCES = {**CONDITIONS, **FINDINGS}


def fields(text: str) -> Iterator[str]:
    return (name for _, name, _, _ in string.Formatter().parse(text) if name)


def test_each_fact_has_a_sentence_in_both_languages_with_the_same_values() -> None:
    assert {code: set(fields(text)) for code, text in SENTENCES.items()} == {
        code: set(fields(text)) for code, text in GATE_SENTENCES.items()
    }


@pytest.mark.parametrize(
    ("condition", "facts", "english", "chinese"),
    [
        (
            [{"code": "between", "metric": "exact", "slice": "lang=zh", "on": "ci_low", "min": 0.5, "max": 1}],
            [{"code": "only_value_passes", "value": 0.6, "on": "ci_low", "bound": 0.41, "n": 2900}],
            ("exact (lang=zh) ci_low >= 0.5 and <= 1", "value 0.6 would pass, ci_low 0.41 does not: 2,900 rows are too few to decide"),
            ("exact (lang=zh) 置信区间下限 >= 0.5 且 <= 1", "指标值 0.6 达标，但置信区间下限 0.41 未达标：2,900 行太少，无法判定"),
        ),
        (
            [
                {"code": "max_drop", "metric": "exact", "slice": None, "max_drop": 0.1, "baseline": "previous"},
                {"code": "min_coverage", "min_coverage": 0.9},
            ],
            [
                {"code": "changed", "gain": -0.05, "low": -0.2, "high": 0.1, "n": 20},
                {"code": "too_few_rows"},
                {"code": "enough_rows", "rows": 1300},
            ],
            ("exact: no more than 0.1 worse than previous, coverage >= 0.9", "change -0.05, interval -0.2 to +0.1, n 20: too few rows to decide; about 1,300 would be enough"),
            ("exact：比上一次运行最多差 0.1，覆盖率 >= 0.9", "变化 -0.05，置信区间 -0.2 至 +0.1，数量 20：行数太少，无法判定；约 1,300 行即可判定"),
        ),
        (
            [{"code": "drift", "kind": "finish_reason", "baseline": "out/old", "max_p": 0.01}],
            [{"code": "drift_shares", "changes": [{"name": "length", "before": 0, "now": 0.005}, {"name": "stop", "before": 1, "now": 0.995}], "distance": 0.005, "p": 0.2, "base": 200, "new": 200}],
            ("drift of finish_reason from out/old: p >= 0.01", "length 0.0 % -> 0.50 %, stop 100.0 % -> 99.5 %, distance 0.005, p 0.2, n 200 and 200"),
            ("结束原因与out/old相比的漂移：p >= 0.01", "达到长度上限 0.0 % -> 0.50 %，正常结束 100.0 % -> 99.5 %，距离 0.005，p 0.2，数量 200 与 200"),
        ),
        (
            [{"code": "at_least", "metric": "bleu", "slice": None, "on": "ci_low", "min": 1}],
            [{"code": "no_value", "on": "ci_low", "why": "one cluster gives no spread"}],
            ("bleu ci_low >= 1", "no ci_low: one cluster gives no spread"),
            ("bleu 置信区间下限 >= 1", "没有置信区间下限：只有一组，无法估计离散程度"),
        ),
    ],
)  # fmt: skip
def test_sentences(
    condition: list[dict[str, object]],
    facts: list[dict[str, object]],
    english: tuple[str, str],
    chinese: tuple[str, str],
) -> None:
    found = gate_texts({"verdict": "undecided", "condition": condition, "facts": facts})
    assert [(found["gate"][n], found["found"][n]) for n in (0, 1)] == [english, chinese]
    assert [one.plain() for one in read_facts(facts)] == facts


def test_a_gate_of_an_older_manifest_keeps_its_text() -> None:
    old = {"gate": "exact >= 0.6", "verdict": "failed", "found": "value 0.4, n 10"}
    assert gate_texts(old) == {
        "gate": ("exact >= 0.6", "exact >= 0.6"),
        "found": ("value 0.4, n 10", "value 0.4, n 10"),
    }


def test_text_of_a_file_is_not_a_template() -> None:
    one = Fact("text", {"text": "{0} {text!r} is damaged"})
    assert ENGLISH.word(one) == CHINESE.word(one) == "{0} {text!r} is damaged"


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("12 rows are too few for an interval", "12 行太少，没有置信区间"),
        (
            "3 of 1,000 rows have a score in one run only, and my.metric has no worst value",
            "1,000 行中有 3 行只在一次运行中有分数，而 my.metric 没有最差值",
        ),
        ("a reason of a user's metric", "a reason of a user's metric"),
    ],
)
def test_reasons(english: str, chinese: str) -> None:
    assert chinese_reason(english) == chinese
    assert all(any("\u4e00" <= c <= "\u9fff" for c in text) for text in REASONS.values())


@pytest.mark.parametrize(
    "english",
    [EQUAL_VALUES, TOO_LARGE, NO_DATA.method.removeprefix("none: "), NO_SPREAD, NO_UNITS, NO_PAIRS.test],
)  # fmt: skip
def test_the_reasons_that_are_constants_are_known(english: str) -> None:
    assert chinese_reason(english) != english


@pytest.mark.slow
def test_the_page_has_gates_in_both_languages(scored: MakeRun) -> None:
    gates = [{"metric": "exact", "min": 0.9}, {"metric": "exact", "min": 0.4, "on": "ci_low"}]
    page = write_report(scored(gates=gates)).read_text("utf-8")
    assert '<span lang="en">value 0.5, n 2</span><span lang="zh">指标值 0.5，数量 2</span>' in page
    assert '<span lang="zh">exact 置信区间下限 &gt;= 0.4</span>' in page
