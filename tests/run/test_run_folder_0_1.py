"""Folders that version 0.1 wrote: a published one can be read, an unfinished one is rejected by its format.

`tests/run_folder_0_1` was made by version 0.1 with the engine echo: `published` is complete, `judged` too, with two judges
and every renamed metric and option, `unfinished` was stopped.
"""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from batchgen.__main__ import call
from batchgen.errors import ExitCode, StateError
from batchgen.evaluation.comparing.compare import compare
from batchgen.evaluation.comparing.scored_run import open_scored_run
from batchgen.evaluation.judging.baseline_answers import (
    AnswerKey,
    find_baseline_answers,
    open_baseline,
)
from batchgen.evaluation.scoring.score import score
from batchgen.inspection.status import status
from batchgen.inspection.verify import verify
from batchgen.jobfile.load import load_job
from batchgen.run.plan import plan
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder

STORED = Path(__file__).parent.parent / "run_folder_0_1"


def copied(name: str, target: Path) -> Path:
    """A copy of a stored folder, with the empty folders that Git does not store."""
    shutil.copytree(STORED / name, target)
    for empty in ("parts", "tmp"):
        (target / ".batchgen" / empty).mkdir(exist_ok=True)
    return target


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the published folder."""
    return copied("published", tmp_path / "published")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The same job in the names of version 0.2."""
    shutil.copy(STORED / "questions.csv", tmp_path)
    content: dict[str, Any] = {
        "version": 1,
        "name": "run-0-1",
        "input": {"path": "questions.csv"},
        "prompt": {
            "user": "{{ question }}",
            "on_overflow": "truncate_left",
            "truncate_column": "question",
        },
        "model": {"engine": "echo"},
        "decoding": {"max_new_tokens": 32, "temperature": 1.0, "n": 2},
        "batching": {"part_rows": 2},
        "output": {"path": "new"},
        "redact": {"replacement": "mask"},
        "evaluate": {
            "reference": "answer",
            "metrics": [
                "exact",
                "length",
                {"type": "contains", "name": "found", "whole_words": True},
                {"type": "refusal", "expect": "refusal"},
                {"type": "pass_hat_k", "name": "all_of_k", "of": "exact", "k": [2]},
            ],
        },
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def test_a_published_folder_can_be_shown_and_verified(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = status(old)
    assert (found.state, found.job, found.counts.rows) == ("complete", "run-0-1", 12)
    assert list(verify(RunFolder(old)).issues) == []
    assert call(["show", str(old), "--row", "q2"]) == 0
    assert "Say yes." in capsys.readouterr().out


REDEFINED = {"number"}
"""Metrics of these folders whose definition has changed since 0.1: `number` reads 2 + 2 as a whole."""
JUDGED = [
    *("exact", "number", "json", "majority"),
    *("constraints_prompt_strict", "constraints_instruction_strict", "python", "perplexity"),
    *("good", "good_label_mass", "better", "better_preference", "better_tie"),
    *("better_position_flip", "better_first_position", "better_label_mass"),
]
"""The metrics of the folder `judged` in version 0.2."""


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """A copy of the folder with judges, which compare with `published`."""
    shutil.copy(STORED / "metric.py", tmp_path)
    copied("published", tmp_path / "run_folder_0_1" / "published")
    path = copied("judged", tmp_path / "judged")
    text = (path / "job.yaml").read_text("utf-8")
    (path / "job.yaml").write_text(text.replace("/tmp/fx", str(tmp_path)), "utf-8")
    return path


@pytest.mark.parametrize(
    ("words", "exit_code", "output"),
    [
        (["show", "RUN"], 0, "What is 2 + 2?"),
        (["status", "RUN"], 0, "run-0-1  complete"),
        (["verify", "RUN"], 0, "ok       complete"),
        (["score", "RUN"], 4, "good_label_mass >= 0: value 3.815e-05, n 18"),
        (["score", "RUN", "--metric", "length"], 4, "length_characters"),
        (["compare", "OLD", "OLD"], 0, "constraints_prompt_strict             1.000   1.000"),
        (["compare", "OLD", "RUN"], 0, "perplexity                          131,072 131,072"),
    ],
)
def test_commands_read_a_folder_with_judges(
    judged: Path,
    words: list[str],
    exit_code: int,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    paths = {"RUN": judged, "OLD": judged.with_name("old")}
    shutil.copytree(paths["RUN"], paths["OLD"])
    if words[-1] == "RUN" and words[0] == "compare":
        score(judged)
    assert call([str(paths.get(word, word)) for word in words]) == exit_code
    printed = capsys.readouterr()
    assert output in printed.out + printed.err
    assert "scores removed" not in printed.err, "renamed columns are not removed ones"


def test_a_folder_with_judges_is_scored_under_the_current_names(judged: Path) -> None:
    before = {row.metric: row for row in open_scored_run(judged).metrics.values()}
    result = score(judged)
    assert [row.metric for row in result.metrics] == JUDGED
    old = ("_label_mass", "_mass"), ("_position_flip", "_flip"), ("_first_position", "_first")
    changed = set()
    for row in result.metrics:
        name = row.metric
        for new, short in old:
            name = name.removesuffix(new) + short if name.endswith(new) else name
        was = before[name]
        if (row.value, row.n, row.coverage) != (was.value, was.n, was.coverage):
            changed.add(row.metric)
    assert changed == REDEFINED
    columns = pl.read_parquet(judged / "responses.parquet").columns
    assert [name for name in columns if name.startswith("score_")] == [f"score_{n}" for n in JUDGED]
    assert [(gate.gate, gate.verdict) for gate in result.gates] == [
        ("good_label_mass >= 0", "passed"),
        ("better_position_flip <= 1", "failed"),
    ]


def test_a_published_folder_can_be_scored_by_its_old_job(old: Path) -> None:
    before = pl.read_parquet(old / "responses.parquet")
    result = score(old)
    after = pl.read_parquet(old / "responses.parquet")
    assert after.equals(before)
    assert "score_all_of_k_2" in after.columns
    assert [row.metric for row in result.metrics] == [
        *("exact", "length_characters", "found", "refusal", "all_of_k_2")
    ]


def test_a_published_folder_can_be_compared(old: Path, job: Path) -> None:
    new = run(load_job(job))
    comparison = compare(old, new.folder.path)
    assert {row.metric for row in comparison.metrics} == {
        *("exact", "length_characters", "found", "refusal", "all_of_k_2")
    }
    assert all(row.base == row.new for row in comparison.metrics)
    # Options that were renamed do not make a definition differ; another way to count sentences does.
    different = {row.metric for row in comparison.metrics if "definitions differ" in row.reason}
    assert different == {"length_characters"}


def test_a_published_folder_is_a_baseline_of_judges_and_gates(old: Path, job: Path) -> None:
    rows = pl.read_parquet(old / "responses.parquet")
    keys = [AnswerKey(r["id"], r["sample"], r["prompt_hash"]) for r in rows.to_dicts()]
    found = find_baseline_answers(open_baseline(old), keys)
    assert [one.text for one in found] == rows["response"].to_list()
    gates = "evaluate.gates=[" + ", ".join(
        f"{{metric: {name}, baseline: {old}, max_drop: 0.5}}" for name in ("exact", "found")
    )
    loaded = load_job(job, overrides=[gates + "]"])
    assert [one.passed for one in run(loaded).gates] == [True, True]


def test_answers_of_a_published_folder_are_reused(old: Path, job: Path) -> None:
    result = run(load_job(job), incremental_from=old)
    assert result.incremental is not None
    assert (result.incremental.reused, result.incremental.generated) == (12, 0)
    columns = ["id", "sample", "response", "row_fingerprint", "run_id"]
    assert (
        result.frame()
        .select(columns)
        .equals(pl.read_parquet(old / "responses.parquet").select(columns))
    )


@pytest.mark.parametrize(
    ("folder", "hint"),
    [
        ("unfinished", "Finish it with version 0.1 of batchgen, or start over with --fresh"),
        ("published", "Write elsewhere with --output FOLDER, or start over with --fresh"),
    ],
)
def test_a_run_in_an_old_folder_is_rejected_by_its_format(
    job: Path, tmp_path: Path, folder: str, hint: str
) -> None:
    copied(folder, tmp_path / "new")
    with pytest.raises(
        StateError, match="a run in format 1; this version resumes format 2"
    ) as caught:
        run(load_job(job))
    assert caught.value.exit_code == ExitCode.STATE
    assert caught.value.hint.startswith(hint)
    assert "format 1" in plan(load_job(job)).output.refusal
    assert run(load_job(job), start="fresh").outcome == "done"
    assert (tmp_path / "new.old-1" / ".batchgen" / "run.json").exists()


FINISH = "inish it with version 0.1 of batchgen, or start over with --fresh"


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["status", "RUN"], ExitCode.DONE),
        (["purge", "RUN"], ExitCode.USAGE),
        (["score", "RUN"], ExitCode.USAGE),
        (["compare", "RUN", "RUN"], ExitCode.USAGE),
    ],
)
def test_the_next_step_for_an_unfinished_folder_is_one_that_works(
    tmp_path: Path, words: list[str], exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied("unfinished", tmp_path / "unfinished")
    assert call([str(path) if word == "RUN" else word for word in words]) == exit_code
    printed = capsys.readouterr()
    assert FINISH in printed.out + printed.err
    assert "Score it first" not in printed.err
