"""Training data from votes, scores and verdicts: what is in it, what is left out, and why."""

import json
import stat
from pathlib import Path
from typing import Any, get_args

import click
import polars as pl
import pytest
from click.testing import CliRunner

from batchgen.cli import cli
from batchgen.cli.feedback import export as export_command
from batchgen.errors import UsageError
from batchgen.feedback.training.choose_examples import ExportOptions
from batchgen.feedback.training.export_examples import ExportSummary, export_examples
from batchgen.feedback.training.filters import ExampleFilters
from batchgen.feedback.training.formats import FormatName
from batchgen.feedback.votes_file import append_votes
from batchgen.jobfile.load import load_job
from batchgen.output.published_run import PublishedRun
from tests.feedback.conftest import ROWS, MakeRun, Voter

SHORT = {"decoding": {"stop_strings": [" "]}}
"""Settings of the other run: it answers the same prompts with their first word."""
CUT = {"decoding": {"max_new_tokens": 5}}


@pytest.fixture
def two(make_run: MakeRun) -> tuple[PublishedRun, PublishedRun]:
    """Two runs over the same prompts: one answers `question 7`, the other one `question`."""
    return make_run(), make_run("short", **SHORT)


def export(
    runs: tuple[PublishedRun, ...], tmp_path: Path, format_name: Any, **options: Any
) -> tuple[ExportSummary, list[dict[str, Any]]]:
    target = tmp_path / "training.jsonl"
    done = export_examples(runs, target, ExportOptions(format_name, **options))
    return done, [json.loads(line) for line in target.read_text().splitlines()]


def test_the_command_offers_every_format() -> None:
    (option,) = (one for one in export_command.params if one.name == "format_name")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == get_args(FormatName)


def vote_pairs(two: tuple[PublishedRun, PublishedRun], *choices: str) -> None:
    vote = Voter(two[0])
    votes = [vote.pair(f"r{n}", choice, two[1]) for n, choice in enumerate(choices)]
    append_votes(two[0].folder, votes)


def test_pair_votes_are_preferences_as_trl_reads_them(
    two: tuple[PublishedRun, PublishedRun], tmp_path: Path
) -> None:
    vote_pairs(two, "a", "b", "tie", "both_bad")
    done, rows = export(two, tmp_path, "trl-dpo")
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [
        ("question 0", "question"),
        ("question", "question 1"),
    ]
    assert rows[0]["prompt"] == [{"role": "user", "content": "question 0"}]
    assert rows[0]["chosen"][0]["role"] == "assistant"
    first, second = (run.manifest.run_id for run in two)
    assert {key: rows[1][key] for key in ("source", "raters", "agreement", "row_id")} == {
        "source": "pairs",
        "raters": 1,
        "agreement": 1.0,
        "row_id": "r1",
    }
    assert (rows[1]["chosen_run"], rows[1]["rejected_run"]) == (second, first)
    assert done.sources == {"pairs": 2}
    assert done.lengths == {"chosen": 9.0, "rejected": 9.0, "chosen_longer": 0.5}


def test_every_format_has_its_columns(
    two: tuple[PublishedRun, PublishedRun], tmp_path: Path
) -> None:
    vote_pairs(two, "a")
    _, reward = export(two, tmp_path, "trl-reward")
    assert reward[0]["chosen"] == [
        {"role": "user", "content": "question 0"},
        {"role": "assistant", "content": "question 0"},
    ]
    assert "prompt" not in reward[0]
    done, kto = export(two, tmp_path, "trl-kto")
    assert [(row["completion"][0]["content"], row["label"]) for row in kto] == [
        ("question 0", True),
        ("question", False),
    ]
    assert done.labels == {"good": 1, "bad": 1}
    _, sft = export(two, tmp_path, "trl-sft")
    assert [row["completion"][0]["content"] for row in sft] == ["question 0"]
    _, factory = export(two, tmp_path, "llamafactory-dpo")
    assert factory[0]["conversations"] == [{"from": "human", "value": "question 0"}]
    assert factory[0]["rejected"] == {"from": "gpt", "value": "question"}
    _, tagged = export(two, tmp_path, "llamafactory-kto")
    assert [(row["conversations"][-1]["from"], row["kto_tag"]) for row in tagged] == [
        ("gpt", True),
        ("gpt", False),
    ]
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info["training"]["columns"]["kto_tag"] == "kto_tag"
    assert info["training"]["file_name"] == "training.jsonl"


def test_dataset_info_keeps_the_entries_of_other_files(
    two: tuple[PublishedRun, PublishedRun], tmp_path: Path
) -> None:
    vote_pairs(two, "a")
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "x.json"}}')
    export(two, tmp_path, "llamafactory-dpo")
    assert set(json.loads((tmp_path / "dataset_info.json").read_text())) == {"mine", "training"}


def test_ratings_with_a_margin_are_preferences(
    two: tuple[PublishedRun, PublishedRun], tmp_path: Path
) -> None:
    for run, values in zip(two, ([5, 3, 2], [2, 2, 4]), strict=True):
        vote = Voter(run)
        append_votes(run.folder, [vote(f"r{n}", "rating", value=v) for n, v in enumerate(values)])
    _, rows = export(two, tmp_path, "trl-dpo", margin=2.0)
    assert [(row["row_id"], row["score_difference"]) for row in rows] == [("r0", 3), ("r2", 2)]
    assert rows[1]["chosen"][0]["content"] == "question"
    done, kto = export(two, tmp_path, "trl-kto")
    assert {(row["row_id"], row["completion"][0]["content"]): row["label"] for row in kto} == {
        ("r0", "question 0"): True,
        ("r0", "question"): False,
        ("r1", "question"): False,
        ("r2", "question 2"): False,
        ("r2", "question"): True,
    }
    assert done.sources == {"ratings": 5}


def test_edits_are_better_than_the_answers(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    vote = Voter(run)
    append_votes(run.folder, [vote("r0", "edit", edited_text="A better answer.")])
    _, rows = export((run,), tmp_path, "trl-dpo")
    assert rows[0]["chosen"][0]["content"] == "A better answer."
    assert (rows[0]["chosen_edited"], rows[0]["rejected_edited"]) == (True, False)
    _, sft = export((run,), tmp_path, "trl-sft")
    assert [row["completion"][0]["content"] for row in sft] == ["A better answer."]


def test_passing_and_failing_a_metric_is_a_preference(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [row | {"gold": row["q"]} for row in ROWS]
    evaluate = {"reference": "gold", "metrics": ["exact"]}
    runs = (
        make_run(rows=rows, evaluate=evaluate),
        make_run("short", rows=rows, evaluate=evaluate, **SHORT),
    )
    done, found = export(runs, tmp_path, "trl-dpo", sources=["metric:exact"])
    assert len(found) == 10
    assert stat.S_IMODE((tmp_path / "training.jsonl").stat().st_mode) == 0o600
    assert {row["chosen"][0]["content"] for row in found} == {row["q"] for row in rows}
    assert {(row["source"], row["raters"]) for row in found} == {("metric:exact", 0)}
    assert any("set input.role: evaluation" in note for note in done.notes)
    assert any(note.startswith("length bias") for note in done.notes)
    labelled, _ = export(runs, tmp_path, "trl-kto", sources=["metric:exact"])
    assert labelled.labels == {"good": 10, "bad": 10}
    with pytest.raises(UsageError, match="has no metric 'bleu'"):
        export(runs, tmp_path, "trl-dpo", sources=["metric:bleu"])


def test_a_judge_that_agrees_in_both_orders_is_a_preference(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """The other run answers with nothing: the verdict on an empty answer is the same in both orders."""
    other = make_run("empty", decoding={"stop_strings": ["q"]})
    judge = {"name": "versus", "mode": "pairwise", "baseline": str(other.folder.path)}
    run = make_run(evaluate={"judges": [judge]})
    assert set(run.frame()["score_versus"]) == {1.0}
    _, rows = export((run, other), tmp_path, "trl-dpo", sources=["judge:versus"])
    assert len(rows) == 10
    assert rows[0]["chosen"][0]["content"] == "question 0"
    assert {(row["source"], row["rejected"][0]["content"]) for row in rows} == {
        ("judge:versus", "")
    }
    done, _ = export((run, other), tmp_path, "trl-kto", sources=["judge:versus"])
    assert (done.labels, done.left_out) == ({"good": 10, "bad": 0}, {"empty": 10})
    with pytest.raises(UsageError, match="not among the runs to export"):
        export((run,), tmp_path, "trl-dpo", sources=["judge:versus"])
    with pytest.raises(UsageError, match="no judge 'nobody'"):
        export((run, other), tmp_path, "trl-dpo", sources=["judge:nobody"])


def filtered(
    two: tuple[PublishedRun, ...], tmp_path: Path, **filters: Any
) -> tuple[dict[str, int], set[str]]:
    options: dict[str, Any] = {"filters": ExampleFilters(**filters)}
    done, rows = export(two, tmp_path, "trl-dpo", **options)
    return dict(done.left_out), {row["row_id"] for row in rows}


def test_flagged_answers_are_left_out(
    two: tuple[PublishedRun, PublishedRun], tmp_path: Path
) -> None:
    vote_pairs(two, "a", "b")
    flag = Voter(two[1])("r0", "flag", reviewer="carol", labels=["private"])
    append_votes(two[1].folder, [flag])
    assert filtered(two, tmp_path) == ({"flagged": 1}, {"r1"})
    assert filtered(two, tmp_path, flagged=False) == ({}, {"r0", "r1"})


def test_truncated_answers_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    two = (make_run(), make_run("cut", **CUT))
    vote_pairs(two, "a", "a")
    with pytest.raises(UsageError, match="left out: truncated 2"):
        filtered(two, tmp_path)
    assert filtered(two, tmp_path, truncated=False) == ({}, {"r0", "r1"})


def test_identical_answers_and_long_ones_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    two = (make_run(), make_run("same", run={"seed": 7}))
    vote = Voter(two[0])
    append_votes(
        two[0].folder,
        [vote.pair("r0", "a", two[1]), vote("r1", "edit", edited_text="long " * 40)],
    )
    assert filtered(two, tmp_path) == ({"identical": 1}, {"r1"})
    with pytest.raises(UsageError, match="identical 1, length ratio 1"):
        filtered(two, tmp_path, max_length_ratio=3.0)


def test_personal_data_is_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [*ROWS[:2], {"id": "mail", "q": "Write to jane.doe@example.com now"}]
    two = (make_run(rows=rows), make_run("short", rows=rows, **SHORT))
    vote = Voter(two[0])
    append_votes(two[0].folder, [vote.pair(name, "a", two[1]) for name in ("r0", "mail")])
    assert filtered(two, tmp_path) == ({"personal data": 1}, {"r0"})
    assert filtered(two, tmp_path, personal_data=False) == ({}, {"r0", "mail"})


def test_reviewers_must_agree_and_contradictions_are_left_out(
    two: tuple[PublishedRun, PublishedRun], tmp_path: Path
) -> None:
    vote = Voter(two[0])
    choices = {"r0": "aaab", "r1": "aaaa"}
    votes = [
        vote.pair(row, choice, two[1], reviewer=f"reviewer {n}")
        for row, given in choices.items()
        for n, choice in enumerate(given)
    ]
    append_votes(two[0].folder, votes)
    assert filtered(two, tmp_path, min_agreement=0.9) == ({"too little agreement": 1}, {"r1"})
    for run, value in zip(two, (1, 5), strict=True):
        append_votes(run.folder, [Voter(run)("r0", "rating", value=value, vote_id=f"{value}" * 32)])
    assert filtered(two, tmp_path) == ({"contradictory": 2}, {"r1"})


def test_at_most_some_examples_of_a_prompt(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    vote = Voter(run)
    edits = [vote("r0", "edit", edited_text=f"Text {n}", reviewer=f"r {n}") for n in range(4)]
    append_votes(run.folder, edits)
    done, rows = export((run,), tmp_path, "trl-dpo", filters=ExampleFilters(max_per_prompt=3))
    assert (len(rows), done.left_out) == (3, {"more than max-per-prompt": 1})


def test_the_split_is_by_prompt_and_stays(
    two: tuple[PublishedRun, PublishedRun], tmp_path: Path
) -> None:
    vote = Voter(two[0])
    edits = [
        vote(row["id"], "edit", edited_text=f"Text {n}", reviewer=f"r {n}")  # type: ignore[arg-type]
        for row in ROWS
        for n in range(2)
    ]
    append_votes(two[0].folder, edits)
    target = tmp_path / "rows.parquet"
    export_examples(two, target, ExportOptions("trl-dpo", split=0.4))
    train, test = (
        set(pl.read_parquet(tmp_path / f"rows-{name}.parquet")["prompt_hash"])
        for name in ("train", "test")
    )
    assert train
    assert test
    assert not train & test
    export_examples(two, target, ExportOptions("trl-kto", split=0.4))
    assert set(pl.read_parquet(tmp_path / "rows-test.parquet")["prompt_hash"]) == test


def test_prompts_of_an_evaluation_set_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(input={"path": "rows.jsonl", "role": "evaluation"})
    append_votes(run.folder, [Voter(run)("r0", "edit", edited_text="Better.")])
    with pytest.raises(UsageError, match="its prompts are an evaluation set") as caught:
        export((run,), tmp_path, "trl-dpo")
    assert "--allow-eval-set" in caught.value.hint
    assert not (tmp_path / "training.jsonl").exists()
    _, rows = export((run,), tmp_path, "trl-dpo", allow_eval_set=True)
    assert len(rows) == 1


def test_votes_about_changed_answers_are_not_exported(
    two: tuple[PublishedRun, PublishedRun], tmp_path: Path
) -> None:
    vote = Voter(two[0])
    append_votes(
        two[0].folder,
        [
            vote.pair("r0", "a", two[1]),
            vote.pair("r1", "a", two[1]).model_copy(update={"other_response_sha": "0" * 64}),
            vote.pair("r2", "a", two[1], response_sha="0" * 64),
        ],
    )
    done, rows = export(two, tmp_path, "trl-dpo")
    assert [row["row_id"] for row in rows] == ["r0"]
    assert done.left_out == {"the other answer has changed": 1}
    assert any("1 votes are about other answers" in note for note in done.notes)


def test_without_the_other_run_pairs_have_no_texts(
    two: tuple[PublishedRun, PublishedRun], tmp_path: Path
) -> None:
    vote_pairs(two, "a")
    with pytest.raises(UsageError, match="an answer is not in the runs 1"):
        export(two[:1], tmp_path, "trl-dpo")


def test_few_shot_examples_are_a_base_file_of_a_job(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [{"id": "r0", "q": "Use {{ braces }} and {% tags %} and ${vars.x}"}, ROWS[1]]
    run = make_run(rows=rows, prompt={"user": "Q: {{ q }}", "system": "Be {{ 'kind' }}."})
    vote = Voter(run)
    append_votes(
        run.folder,
        [
            vote("r0", "edit", edited_text="Say {# this #} 你好"),
            vote("r1", "edit", edited_text="And this"),
        ],
    )
    target = tmp_path / "examples.yaml"
    done = export_examples((run,), target, ExportOptions("few-shot", examples=1))
    assert list(done.files.values()) == [1]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    job = tmp_path / "next.yaml"
    job.write_text("extends: [job.yaml, examples.yaml]\noutput: {path: next}\n")
    from batchgen.run.run import run as run_job

    run_job(load_job(job))
    messages = pl.read_parquet(tmp_path / "next" / "responses.parquet")["messages"].to_list()
    assert [(one["role"], one["content"]) for one in messages[1]] == [
        ("system", "Be kind."),
        ("user", "Q: Use {{ braces }} and {% tags %} and ${vars.x}"),
        ("assistant", "Say {# this #} 你好"),
        ("user", "Q: question 1"),
    ]


def test_the_command_prints_what_it_wrote(
    two: tuple[PublishedRun, PublishedRun], tmp_path: Path
) -> None:
    vote_pairs(two, "a", "b")
    runs = [str(run.folder.path) for run in two]
    target = str(tmp_path / "training.jsonl")
    command = ["feedback", "export", *runs, "--format", "trl-dpo", "-o", target]
    shown = CliRunner().invoke(cli, command)
    assert shown.exit_code == 0, shown.output
    assert "wrote     2 rows to" in shown.output
    assert "the chosen text is longer in 50%" in shown.output
    machine = CliRunner().invoke(cli, [*command, "--json"])
    assert json.loads(machine.output)["sources"] == {"pairs": 2}


@pytest.mark.parametrize(
    ("name", "problem"),
    [("rows.csv", "unknown format '.csv'"), ("no/rows.jsonl", "does not exist")],
)
def test_a_target_that_cannot_be_written_is_an_error(
    two: tuple[PublishedRun, PublishedRun], tmp_path: Path, name: str, problem: str
) -> None:
    vote_pairs(two, "a")
    with pytest.raises(UsageError, match=problem):
        export_examples(two, tmp_path / name, ExportOptions("trl-dpo"))
