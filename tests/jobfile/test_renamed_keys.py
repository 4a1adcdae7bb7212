"""Old keys and metric types: an error with the new name in a job file, `--set` and profiles; translated in stored jobs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import JobFileError, Problem, UsageError
from batchgen.evaluation.scoring.score import score
from batchgen.jobfile.load import load_job, load_stored_job
from batchgen.jobfile.messages.expected_types import expected_at
from batchgen.jobfile.renamed_keys import (
    RENAMED_KEYS,
    RENAMED_TYPES,
    metric_with_current_names,
    metric_with_names_of_0_1,
)

Write = Callable[..., Path]

BOTH_LIMITS = "Write run.max_error_rate and run.max_error_count."
KEYS = [
    # (lines added to the job, key, new name, hint)
    ("redact: {with: hash}", "redact.with", "`replacement`", "Write redact.replacement."),
    ("prompt.truncate=x", "prompt.truncate", "`truncate_column`", "Write prompt.truncate_column."),
    ("run: {max_errors: 0.05}", "run.max_errors", "`max_error_rate` and `max_error_count`", "Write run.max_error_rate: 0.05."),
    ("run: {max_errors: 20}", "run.max_errors", "`max_error_rate` and `max_error_count`", "Write run.max_error_rate: 1 and run.max_error_count: 20."),
    ("run: {max_errors: 1}", "run.max_errors", "`max_error_rate` and `max_error_count`", "Write run.max_error_rate: 1 and run.max_error_count: 1."),
    ("run: {max_errors: 1.0}", "run.max_errors", "`max_error_rate` and `max_error_count`", "Write run.max_error_count: 1 for one answer, or run.max_error_rate: 1 for all answers."),
    ("run: {max_errors: .inf}", "run.max_errors", "`max_error_rate` and `max_error_count`", BOTH_LIMITS),
    ("run: {max_errors: 1e400}", "run.max_errors", "`max_error_rate` and `max_error_count`", BOTH_LIMITS),
    ("run: {max_errors: -.inf}", "run.max_errors", "`max_error_rate` and `max_error_count`", BOTH_LIMITS),
    ("run: {max_errors: .nan}", "run.max_errors", "`max_error_rate` and `max_error_count`", BOTH_LIMITS),
    ("run: {max_errors: -1}", "run.max_errors", "`max_error_rate` and `max_error_count`", BOTH_LIMITS),
    ("run: {max_errors: true}", "run.max_errors", "`max_error_rate` and `max_error_count`", BOTH_LIMITS),
    ("run: {max_errors: abc}", "run.max_errors", "`max_error_rate` and `max_error_count`", BOTH_LIMITS),
    ("run: {max_errors: [1]}", "run.max_errors", "`max_error_rate` and `max_error_count`", BOTH_LIMITS),
    ("run: {max_errors: '${env:HOME}'}", "run.max_errors", "`max_error_rate` and `max_error_count`", BOTH_LIMITS),
    ("profiles: {p: {run: {max_errors: 0}}}", "profiles.p.run.max_errors", "`max_error_rate` and `max_error_count`", "Write run.max_error_rate: 0."),
    ("evaluate: {judges: [{name: j, against: x}]}", "evaluate.judges[0].against", "`baseline`", "Write evaluate.judges[0].baseline."),
    ("evaluate: {metrics: [{type: contains, boundaries: none}]}", "evaluate.metrics[0].boundaries", "`whole_words`", "Write evaluate.metrics[0].whole_words: false."),
    ("evaluate: {metrics: [{type: ifeval, instructions: i, keywords: k}]}", "evaluate.metrics[0].keywords", "`kwargs`", "Write evaluate.metrics[0].kwargs."),
    ("evaluate: {metrics: [{type: json, fenced: allow}]}", "evaluate.metrics[0].fenced", "`allow_code_fence`", "Write evaluate.metrics[0].allow_code_fence: true."),
    ("evaluate: {metrics: [{type: json, fenced: '${env:HOME}'}]}", "evaluate.metrics[0].fenced", "`allow_code_fence`", "Write evaluate.metrics[0].allow_code_fence."),
    ("evaluate: {metrics: [{type: json_schema, schema: x.json, fenced: refuse}]}", "evaluate.metrics[0].fenced", "`allow_code_fence`", "Write evaluate.metrics[0].allow_code_fence: false."),
    ("evaluate: {metrics: [{type: number, mark: boxed}]}", "evaluate.metrics[0].mark", "`answer_format`", "Write evaluate.metrics[0].answer_format."),
    ("evaluate: {metrics: [{type: python, function: 'a:b', better: lower}]}", "evaluate.metrics[0].better", "`direction`", "Write evaluate.metrics[0].direction."),
    ("evaluate: {metrics: [{type: python, entry: 'a:b'}]}", "evaluate.metrics[0].entry", "`function`", "Write evaluate.metrics[0].function."),
    ("evaluate: {metrics: [{type: refusal, wanted: answer}]}", "evaluate.metrics[0].wanted", "`expect`", "Write evaluate.metrics[0].expect."),
]  # fmt: skip


def problems(write: Write, added: str) -> tuple[Problem, ...]:
    overrides = () if ": " in added else (added,)
    with pytest.raises(JobFileError) as caught:
        load_job(write("" if overrides else added + "\n"), overrides=overrides)
    return caught.value.problems


@pytest.mark.parametrize(("added", "key", "new", "hint"), KEYS, ids=[case[0] for case in KEYS])
def test_an_old_key_is_an_error_that_names_the_new_one(
    write: Write, added: str, key: str, new: str, hint: str
) -> None:
    (found,) = [p for p in problems(write, added) if p.key == key]
    old = key.rpartition(".")[2]
    assert found.message.removesuffix(" (given by --set)") == (
        f"unknown key `{old}`: renamed to {new} in version 0.2"
    )
    assert found.hint == hint


@pytest.mark.parametrize(("old", "new"), RENAMED_TYPES.items())
def test_an_old_type_is_an_error_that_names_the_new_one(write: Write, old: str, new: str) -> None:
    for item in (old, f"{{type: {old}}}"):
        (found,) = problems(write, f"evaluate: {{metrics: [{item}]}}")
        assert found.message == f"unknown type `{old}`: renamed to `{new}` in version 0.2"
        assert found.hint == f"Write {new}."


def test_every_rename_is_tested_and_its_new_key_exists() -> None:
    tested = {"".join(c for c in case[1].removeprefix("profiles.p.")) for case in KEYS}
    for old, rename in RENAMED_KEYS.items():
        assert any(key.endswith("." + old.rpartition(".")[2]) for key in tested), old
        section = [0 if step == "0" else step for step in old.split(".")[:-1]]
        if section[0] == "evaluate":
            section.insert(2, 0)
        for name in rename.names:
            assert expected_at((*section, name)) is not None, (old, name)


def test_score_explains_old_names_too(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"response": "x"}\n')
    for metric, words in (
        ("majority", "renamed to `majority_at_k`"),
        ({"type": "refusal", "wanted": "answer"}, "renamed to `expect`"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            score(tmp_path / "answers.jsonl", [metric], output=tmp_path / "out")
        assert caught.value.hint.startswith("Write ")


def test_a_stored_job_is_translated(write: Write) -> None:
    added = """\
redact: {with: mask}
run: {max_errors: 20}
evaluate:
  metrics:
  - {type: exact, name: null}
  - {type: majority, name: null, of: exact}
  - {type: constraints, name: mine, instructions: i, keywords: k}
  - {type: contains, boundaries: none}
  judges:
  - {name: j, mode: pairwise, against: /runs/other}
"""
    job = load_stored_job(write(added)).job
    assert job.redact is not None
    assert job.redact.replacement == "mask"
    assert (job.run.max_error_rate, job.run.max_error_count) == (1, 20)
    assert [(m.type, m.name) for m in job.evaluate.metrics] == [
        ("exact", None),
        ("majority_at_k", "majority"),
        ("ifeval", "mine"),
        ("contains", None),
    ]
    assert job.evaluate.judges[0].baseline == "/runs/other"
    with pytest.raises(JobFileError):
        load_job(write(added))


@pytest.mark.parametrize(
    "old",
    [
        {"type": "all_of_k", "of": "exact", "k": (1,)},
        {"type": "constraints", "instructions": "i", "keywords": "k"},
        {"type": "contains", "boundaries": "none"},
        {"type": "exact"},
        {"type": "json", "fenced": "allow"},
        {"type": "number", "mark": "boxed"},
        {"type": "python", "entry": "a:b", "better": "lower"},
        {"type": "refusal", "wanted": "refusal"},
    ],
    ids=lambda old: str(old["type"]),
)
def test_options_under_the_names_of_0_1_are_those_that_0_1_stored(old: dict[str, object]) -> None:
    current = {k: v for k, v in metric_with_current_names(old).items() if k != "name"}
    assert metric_with_names_of_0_1(current) == old
