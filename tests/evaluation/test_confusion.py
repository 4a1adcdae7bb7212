"""Classifications from the answers to the printed confusion matrix, the comparison and the gate."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import batchgen
from batchgen.cli import cli
from batchgen.cli.render.confusion_table import confusion_lines
from batchgen.evaluation.aggregate import MAX_CLUSTERS, BlockLocalClusters, ClusterSums
from batchgen.evaluation.confusion import ConfusionMatrix, read_confusion_matrices
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from tests.metrics.test_macro_f1 import RANDOM, rows

MakeJob = Callable[..., Path]
SENTIMENT = {"type": "choice", "name": "tone", "labels": ["positive", "negative", "neutral"]}


def write(path: Path, pairs: str) -> Path:
    lines = [
        json.dumps({"id": str(n), "gold": gold, "response": given or "unclear"})
        for n, (gold, given) in enumerate(rows(pairs))
    ]
    path.write_text("\n".join(lines))
    return path


def scored(tmp_path: Path, name: str, pairs: str) -> Path:
    file = write(tmp_path / f"{name}.jsonl", pairs)
    batchgen.score(file, [SENTIMENT], reference="gold", output=tmp_path / name)
    return tmp_path / name


def test_the_matrix_is_that_of_scikit_learn(tmp_path: Path) -> None:
    (matrix,) = read_confusion_matrices(scored(tmp_path, "out", RANDOM) / "scores.parquet")
    of = {"metric": "tone_macro_f1", "labels": ("positive", "negative", "neutral")}
    assert {"metric": matrix.metric, "labels": matrix.labels} == of
    counts = [[matrix.counts.get((r, a), 0) for a in (*matrix.labels, None)] for r in matrix.labels]
    # Of `confusion_matrix` with these labels and "none".
    assert counts == [[2, 2, 3, 4], [3, 2, 1, 4], [5, 3, 4, 7]]


def test_the_interval_is_that_of_resampled_rows(tmp_path: Path) -> None:
    frame = pl.read_parquet(scored(tmp_path, "out", RANDOM) / "metrics.parquet")
    row = frame.row(by_predicate=pl.col("metric") == "tone_macro_f1", named=True)
    # 10,000 replicates of scikit-learn's f1_score with numpy's generator give 0.097 to 0.381.
    assert row["method"] == "bootstrap"
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((0.097, 0.381), abs=0.01)


def test_score_prints_the_matrix_and_its_json_has_the_cells(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", "pp pp pn nn u-")
    metric, out = json.dumps(SENTIMENT), str(tmp_path / "out")
    arguments = ["score", str(file), "-m", metric, "--reference", "gold", "-o", out]
    printed = CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout
    assert printed.splitlines()[-4:] == [
        "            positive  negative  neutral  no answer",
        "  positive         2         1        0          0",
        "  negative         0         1        0          0",
        "  neutral          0         0        0          1",
    ]
    printed = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False).stdout
    (matrix,) = json.loads(printed.splitlines()[-1])["confusion"]
    assert matrix["metric"] == "tone_macro_f1"
    assert matrix["cells"] == [
        {"reference": "positive", "answer": "positive", "n": 2},
        {"reference": "positive", "answer": "negative", "n": 1},
        {"reference": "negative", "answer": "negative", "n": 1},
        {"reference": "neutral", "answer": None, "n": 1},
    ]


def test_a_run_has_the_value_with_its_interval_by_slice_and_prints_the_matrix(
    make_job: MakeJob, tmp_path: Path
) -> None:
    # The echo engine repeats the prompt.
    said = [("positive", "positive", "en"), ("negative", "negative", "en"), ("x", "neutral", "zh")]
    made = [{"q": q, "gold": gold, "lang": lang} for q, gold, lang in said * 4]
    evaluate = {"reference": "gold", "metrics": [SENTIMENT], "slices": ["lang"]}
    gates = [{"metric": "tone_macro_f1", "min": 0.9}]
    job = make_job(made, evaluate=evaluate | {"gates": gates}, output={"path": "out"})
    done = CliRunner().invoke(cli, ["run", str(job)])
    assert done.stdout.splitlines()[-3].split() == ["positive", "4", "0", "0", "0"]
    assert "GATE FAILED" in done.stderr
    found = pl.read_parquet(tmp_path / "out" / "metrics.parquet").filter(
        pl.col("metric") == "tone_macro_f1"
    )
    # positive 1, negative 1, neutral 0; each slice over the labels that its references have
    assert dict(found.select("slice", "value").iter_rows()) == pytest.approx(
        {"all": 2 / 3, "lang=en": 1.0, "lang=zh": 0.0}
    )
    row = found.row(0, named=True)
    # Within each class all rows are alike, so that only the rule of three (3 of 12 rows) gives a spread.
    assert (row["n"], row["method"], row["unit"]) == (12, "rule of three", "fraction")
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((2 / 3 - 0.25, 2 / 3 + 0.25))
    again = CliRunner().invoke(cli, ["run", str(job), "--json"])
    assert json.loads(again.stdout.splitlines()[-1])["confusion"][0]["cells"][-1] == {
        "reference": "neutral",
        "answer": None,
        "n": 4,
    }


@pytest.mark.parametrize(
    ("base", "new", "value", "verdict"),
    [
        ("pp " * 60 + "nn " * 30, "pp " * 60 + "np " * 30, 0.4 - 1.0, "worse"),
        ("pp " * 60 + "np " * 30, "pp " * 60 + "nn " * 30, 1.0 - 0.4, "better"),
        ("pp " * 60 + "nn " * 30, "pp " * 60 + "nn " * 30, 0.0, "inconclusive"),
    ],
)
def test_two_runs_are_compared_by_swapped_rows(
    tmp_path: Path, base: str, new: str, value: float, verdict: str
) -> None:
    folders = scored(tmp_path, "base", base), scored(tmp_path, "new", new)
    (found,) = batchgen.compare(*folders, metrics=["tone_macro_f1"]).metrics
    assert found.difference.value == pytest.approx(value)
    assert found.difference.test == "approximate randomization"
    assert found.verdict == verdict
    assert found.difference.low is not None
    assert found.difference.low <= value


@pytest.mark.parametrize(("answer", "passed"), [("positive", True), ("negative", False)])
def test_a_gate_bounds_the_drop_against_a_baseline(
    make_job: MakeJob, tmp_path: Path, answer: str, passed: bool
) -> None:
    base = scored(tmp_path, "base", "pp nn " * 60)
    golds = ["positive", "negative"] * 60
    made = [
        {"id": str(n), "q": gold if passed else answer, "gold": gold}
        for n, gold in enumerate(golds)
    ]
    gate = {"metric": "tone_macro_f1", "baseline": str(base), "max_drop": 0.1}
    evaluate = {"reference": "gold", "metrics": [SENTIMENT], "gates": [gate]}
    result = run(load_job(make_job(made, evaluate=evaluate, output={"path": "out"})))
    assert [one.verdict for one in result.gates] == ["passed" if passed else "failed"]


def lines(labels: list[str], counts: dict[Any, int]) -> list[str]:
    return list(confusion_lines([ConfusionMatrix("m", labels, counts)]))


def test_a_table_fits_the_window_and_a_large_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    many = [f"class_{n}" for n in range(13)]
    assert lines(many, {("class_0", None): 1}) == [
        "confusion matrix of m: 13 labels: in scores.parquet, columns reference and answer"
    ]
    twelve = [f"a long label {n}" for n in range(12)]
    assert max(map(len, lines(twelve, {(twelve[0], None): 7}))) <= 100
    assert lines(["好", "不好"], {("好", "不好"): 1234}) == [
        "confusion matrix of m: a line for each reference, a column for each answer",
        "           好   不好  no answer",
        "  好        0  1,234          0",
        "  不好      0      0          0",
    ]
    assert lines(["a", "b"], {}) == []


def test_scores_of_an_earlier_version_have_no_matrix(tmp_path: Path) -> None:
    folder = scored(tmp_path, "out", "pp")
    table = pl.read_parquet(folder / "scores.parquet").drop("reference").to_arrow()
    old = pq.read_schema(folder / "scores.parquet").metadata
    pq.write_table(table.replace_schema_metadata(old), folder / "scores.parquet")
    assert read_confusion_matrices(folder / "scores.parquet") == []
    assert read_confusion_matrices(tmp_path / "none.parquet") == []


@pytest.mark.parametrize(
    ("width", "most"), [(1, 1 << 17), (16, 1 << 17), (256, 1 << 13), (9000, 1 << 10)]
)
def test_tables_of_wide_statistics_have_fewer_rows(width: int, most: int) -> None:
    sums = ClusterSums(width, BlockLocalClusters())
    rows_ = most + 5 if width > 16 else 5
    for first in range(0, rows_, 512):
        count = min(512, rows_ - first)
        sums.add(np.arange(count), np.ones((count, width)))
    table = sums.table()
    assert len(table) == min(rows_, most) <= MAX_CLUSTERS
    assert table.sum() == rows_ * (width + 1)
