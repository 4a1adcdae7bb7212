"""A comparison or a gate passes only on evidence: equal differences, missing scores, pairs that do not exist."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import batchgen
from batchgen.__main__ import call
from batchgen.cli import cli
from batchgen.jobfile.load import load_job
from batchgen.run.run import run

Rows = Sequence[Mapping[str, object]]
METRICS = ["exact", "token_f1", "edit_distance", "length"]


def scored(folder: Path, name: str, rows: Rows, metrics: Sequence[Any] = METRICS) -> Path:
    """The folder with the scores of some rows."""
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    batchgen.score(file, metrics, reference="gold", output=folder / name)
    return folder / name


def as_json(base: Path, new: Path, *options: str) -> dict[str, Any]:
    done = CliRunner().invoke(
        cli, ["compare", str(base), str(new), *options, "--json"], standalone_mode=False
    )
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


def rows(responses: Sequence[str | None], gold: str = "red green pink") -> Rows:
    return [{"id": n, "response": text, "gold": gold} for n, text in enumerate(responses)]


def of(printed: dict[str, Any], metric: str) -> dict[str, Any]:
    return next(one for one in printed["metrics"] if one["metric"] == metric)


NEAR, FAR = "red green blue", "red blue black"


@pytest.mark.parametrize(
    ("base", "new", "option", "code"),
    [
        ([NEAR] * 2, [NEAR] * 2, "token_f1:0", 4),
        ([NEAR] * 2, [NEAR] * 2, "token_f1:0.5", 4),
        ([NEAR] * 2, [FAR] * 2, "token_f1:0.5", 4),
        ([NEAR] * 2, [FAR] * 2, "token_f1", 4),
        ([NEAR] * 6, [NEAR] * 6, "token_f1:0.49", 4),
        ([NEAR] * 7, [NEAR] * 7, "token_f1:0.5", 0),
        ([NEAR] * 60, [NEAR] * 60, "token_f1:0.05", 0),
        ([NEAR] * 59, [NEAR] * 59, "token_f1:0.05", 4),
        ([NEAR] * 60, [NEAR] * 59 + [FAR], "token_f1:0.05", 4),
        ([NEAR] * 30, [NEAR] * 30, "exact:0.1", 0),
        ([NEAR] * 29, [NEAR] * 29, "exact:0.1", 4),
        ([NEAR] * 500, [NEAR] * 500, "edit_distance:100", 4),
        ([NEAR], [NEAR], "token_f1:0.5", 4),
        ([NEAR], [NEAR], "exact:0.5", 4),
        ([NEAR] * 2, [NEAR] * 2, "exact", 0),
    ],
)
def test_equal_differences_need_as_many_rows_as_the_rule_of_three(
    tmp_path: Path, base: Sequence[str], new: Sequence[str], option: str, code: int
) -> None:
    before, now = scored(tmp_path, "base", rows(base)), scored(tmp_path, "new", rows(new))
    printed = as_json(before, now, "--fail-if-worse", option)
    assert printed["exit_code"] == code, printed["failed"]
    name, _, margin = option.partition(":")
    if margin:
        equivalent = of(as_json(before, now, "--margin", option), name)["verdict"] == "equivalent"
        assert equivalent == (code == 0)


def test_the_number_of_pairs_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, new = (str(scored(tmp_path, name, rows([NEAR] * 2))) for name in ("base", "new"))
    options = ["--margin", "token_f1:0.05", "--fail-if-worse", "token_f1:0.02"]
    assert call(["compare", base, new, *options]) == 4
    out, err = capsys.readouterr()
    assert "about 150 such pairs are enough for a margin of 0.02" in out
    assert "p: exact McNemar; interval: Agresti-Min, at least the rule of three" in out
    assert "none: all differences are equal, and the metric has no range" in out
    assert "failed token_f1 may be worse by more than 0.02: 150 such pairs would rule it out" in err
    assert call(["compare", base, new]) == 0
    assert "300 such pairs have an interval of ±0.010" in capsys.readouterr().out


def half_lost(count: int) -> Sequence[str | None]:
    return [None if n % 2 else "1" for n in range(count)]


@pytest.mark.parametrize(
    ("metric", "verdict", "lost"),
    [
        ("exact", "worse", 100),
        ("token_f1", "worse", 100),
        ("edit_distance", "inconclusive", 100),
        ("length_characters", "inconclusive", 100),
    ],
)
def test_a_run_that_loses_half_of_its_answers_is_not_as_good(
    tmp_path: Path, metric: str, verdict: str, lost: int
) -> None:
    base = scored(tmp_path, "base", rows(["1"] * 200, "1"))
    new = scored(tmp_path, "new", rows(half_lost(200), "1"))
    option = f"{metric}:0.02"
    found = of(as_json(base, new, "--margin", option), metric)
    assert (found["verdict"], found["lost"], found["unpaired"]) == (verdict, lost, lost)
    if verdict == "worse":
        assert (found["base"], found["new"], found["n"]) == (1.0, 0.5, 200)
        assert found["regressions"][0]["new"] is None
    else:
        assert found["p"] is found["difference"]["low"] is None
    if metric != "length_characters":
        for limit in (metric, option):
            assert as_json(base, new, "--fail-if-worse", limit)["exit_code"] == 4
    # The other way round, the answers that came back are gains.
    back = of(as_json(new, base), metric)
    assert back["verdict"] == ("better" if verdict == "worse" else "inconclusive")
    assert as_json(new, base, "--fail-if-worse", "exact")["exit_code"] == 0


@pytest.mark.parametrize(
    ("lost", "count", "code"),
    [(2, 4, 4), (1, 10, 4), (1, 200, 0), (0, 3, 0)],
)
def test_too_many_lost_answers_fail_without_significance(
    tmp_path: Path, lost: int, count: int, code: int
) -> None:
    base = scored(tmp_path, "base", rows(["1"] * count, "1"), ["exact"])
    new = scored(tmp_path, "new", rows([None] * lost + ["1"] * (count - lost), "1"), ["exact"])
    assert as_json(base, new, "--fail-if-worse", "exact")["exit_code"] == code


def test_a_lost_answer_of_a_corpus_metric_has_the_worst_value(tmp_path: Path) -> None:
    texts = [f"the {word} cat sat on the mat today" for word in ("red", "big", "old", "new")] * 5
    before = [{"id": n, "response": text, "gold": text} for n, text in enumerate(texts)]
    after = [
        {**row, "response": row["response"] if n % 4 else None} for n, row in enumerate(before)
    ]
    metrics = ["bleu", "chrf", "cer"]
    base, new = (
        scored(tmp_path, name, data, metrics) for name, data in (("base", before), ("new", after))
    )
    printed = as_json(base, new)
    for name in ("bleu", "chrf"):
        found = of(printed, name)
        assert (found["base"], found["new"]) == pytest.approx((100.0, 75.0))
        assert found["difference"]["test"] == "exact randomization"
        assert found["difference"]["p"] == pytest.approx(2 / 2**5)
        assert as_json(base, new, "--fail-if-worse", f"{name}:20")["exit_code"] == 4
    assert of(printed, "cer")["p"] is None
    assert as_json(base, new, "--fail-if-worse", "cer")["exit_code"] == 4


EDGES: Mapping[str, Rows] = {
    "a": [{"id": n, "response": str(n), "gold": str(n)} for n in range(3)],
    "b": [{"id": n, "response": str(n + (n == 1)), "gold": str(n)} for n in range(3)],
    "one": [{"id": 0, "response": "0", "gold": "0"}],
    "other": [{"id": f"x{n}", "response": "1", "gold": "1"} for n in range(3)],
    "twice": [{"id": n, "response": str(n), "gold": "0"} for n in (0, 0, 2)],
    "no_gold": [{"id": n, "response": str(n), "gold": None} for n in range(3)],
    "no_response": [{"id": n, "response": None, "gold": str(n)} for n in range(3)],
    "float_id": [{"id": float(n), "response": str(n), "gold": str(n)} for n in range(3)],
    "text_id": [{"id": str(n), "response": str(n), "gold": str(n)} for n in range(3)],
}


@pytest.mark.parametrize(
    ("base", "new", "code", "words"),
    [
        ("a", "b", 0, "exact: 3 rows: 0 better, 1 worse, 2 the same"),
        ("a", "a", 0, "exact: 3 rows: 0 better, 0 worse, 3 the same"),
        ("a", "one", 0, "2 only in base: 1, 2"),
        ("a", "other", 4, "no common row has a score in both"),
        ("a", "twice", 6, "id '0' and sample 0 occur twice"),
        ("no_gold", "no_gold", 4, "no common row has a score in both"),
        ("a", "no_gold", 4, "no common row has a score in both"),
        ("a", "no_response", 4, "no common row has a score in both"),
        ("a", "float_id", 0, "exact: 3 rows: 0 better, 0 worse, 3 the same"),
        ("a", "text_id", 0, "exact: 3 rows: 0 better, 0 worse, 3 the same"),
        ("one", "one", 0, "exact: 1 row: 0 better, 0 worse, 1 the same"),
    ],
)
def test_edges_of_a_comparison(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    base: str,
    new: str,
    code: int,
    words: str,
) -> None:
    before, now = (
        scored(tmp_path, f"{side}_{name}", EDGES[name], ["exact", "length"])
        for side, name in (("base", base), ("new", new))
    )
    capsys.readouterr()
    assert call(["compare", str(before), str(now), "--fail-if-worse", "exact"]) == code
    assert words in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("own", "verdict", "words"),
    [
        ({}, "failed", "coverage 0.5, below 0.95"),
        ({"min_coverage": 0.6}, "failed", "coverage 0.5"),
        ({"min_coverage": 0.5}, "failed", "change -0.5"),
    ],
)
def test_a_gate_on_a_baseline_counts_lost_answers(
    make_job: Callable[..., Path],
    tmp_path: Path,
    own: dict[str, float],
    verdict: str,
    words: str,
) -> None:
    base = scored(tmp_path, "base", rows(["1"] * 40, "1"), ["exact"])
    half = [{"id": n, "q": "1" if n % 2 else "", "gold": "1"} for n in range(40)]
    gate = {"metric": "exact", "baseline": str(base), "max_drop": 0.1} | own
    evaluate = {"reference": "gold", "metrics": ["exact"], "gates": [gate]}
    job = make_job(half, evaluate=evaluate, run={"max_error_rate": 1})
    (found,) = run(load_job(job)).gates
    assert (found.verdict, words in found.found) == (verdict, True), found.found
