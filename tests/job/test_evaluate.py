"""The section `evaluate`: short forms, errors with their place, and a round trip through the dump."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import JobFileError
from batchgen.job.evaluate import Bins
from batchgen.jobfile.load import load_job
from batchgen.metrics.registry import METRIC_TYPES

Write = Callable[..., Path]


def test_a_type_alone_is_a_metric_with_its_defaults(write: Write) -> None:
    job = load_job(write("evaluate: {metrics: [exact, {type: exact, name: other}]}\n")).job
    one, other = job.evaluate.metrics
    assert one == METRIC_TYPES["exact"].options.model_validate({})
    assert (other.type, other.name) == ("exact", "other")


def test_numbers_from_variables_are_read_as_numbers(write: Write) -> None:
    added = "vars: {least: 0.5}\nevaluate:\n  metrics: [exact]\n  gates: [{metric: exact, min: '${vars.least}'}]\n"
    (gate,) = load_job(write(added)).job.evaluate.gates
    assert gate.min == 0.5


def test_a_baseline_is_a_path_or_the_word_previous(write: Write, tmp_path: Path) -> None:
    added = (
        "evaluate:\n  metrics: [exact]\n  gates:\n"
        "  - {metric: exact, baseline: ../good, max_drop: 0.1}\n"
        "  - {metric: exact, baseline: previous, max_drop: 0.1}\n"
    )
    one, other = load_job(write(added, name="jobs/job.yaml")).job.evaluate.gates
    assert one.baseline == str(tmp_path / "good")
    assert other.baseline == "previous"


def test_the_dump_reads_back_as_the_same_job(write: Write) -> None:
    added = (
        "evaluate:\n  reference: [answer, also]\n  slices: [lang, {column: n, bins: [0, 2.5]}]\n"
        "  metrics: [exact, {type: rouge, variants: [L]}, {type: json_schema, schema: s.json}]\n  gates: [{metric: exact, min_coverage: 1}]\n"
    )
    loaded = load_job(write(added))
    again = load_job(write(text=loaded.dump(), name="again.yaml"))
    assert again.job == loaded.job
    assert loaded.job.evaluate.slices == ("lang", Bins(column="n", bins=(0, 2.5)))


@pytest.mark.parametrize(
    ("added", "place", "key", "message"),
    [
        pytest.param("  metrics: [exat]\n", "8:13", "evaluate.metrics[0]", "expected a type; found the text 'exat'", id="unknown type alone"),
        pytest.param("  metrics:\n  - {type: exat}\n", "9:6", "evaluate.metrics[0].type", "expected a type; found the text 'exat'", id="unknown type"),
        pytest.param("  metrics:\n  - {name: x}\n", "9:5", "evaluate.metrics[0].type", "is required", id="no type"),
        pytest.param("  metrics: [7]\n", "8:13", "evaluate.metrics[0]", "expected a type, or a mapping with the key `type`; found 7", id="number as type"),
        pytest.param("  metrics: [null]\n", "8:13", "evaluate.metrics[0]", "expected a type, or a mapping with the key `type`; found null", id="null as type"),
        pytest.param("  metrics:\n  - exact\n  - {type: exact, name: b, tolerance: 0}\n", "10:28", "evaluate.metrics[1].tolerance", "unknown key", id="unknown option"),
        pytest.param("  metrics: [exact]\n  gates: [{metric: exact}]\n", "9:11", "evaluate.gates[0]", "a gate needs a condition: min or max or both, or max_drop, or min_coverage", id="gate without condition"),
        pytest.param("  metrics: [exact, exact]\n", "8:3", "evaluate.metrics", "two are named 'exact'", id="one name twice"),
        pytest.param("  metrics: [exact]\n  slices: [{column: n, bins: [2, 1]}]\n", "9:24", "evaluate.slices[0].bins", "bins must be in ascending order", id="falling bins"),
        pytest.param("  metrics: [exact]\n  ci: {level: 95}\n", "9:8", "evaluate.ci.level", "expected a number above 0 and below 1; found 95", id="level in percent"),
        pytest.param("  slices: [lang]\n", "7:1", "evaluate", "metrics is empty, so that the other keys have no effect", id="no metrics"),
    ],
)  # fmt: skip
def test_what_is_refused(write: Write, added: str, place: str, key: str, message: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load_job(write("evaluate:\n" + added))
    (problem,) = caught.value.problems
    assert f"{problem.line}:{problem.column}" == place
    assert (problem.key, problem.message) == (key, message)


@pytest.mark.parametrize("item", ["7", "null", "[exact]", "''", "{name: x}"])
def test_the_error_of_an_item_without_a_type_lists_the_types(write: Write, item: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load_job(write(f"evaluate: {{metrics: [{item}]}}\n"))
    assert caught.value.problems[0].hint.startswith("Use one of exact, normalized_match, ")


def test_the_error_of_an_unknown_option_lists_those_of_the_type(write: Write) -> None:
    with pytest.raises(JobFileError) as caught:
        load_job(write("evaluate: {metrics: [{type: rouge, variant: [L]}]}\n"))
    assert caught.value.problems[0].hint == "Did you mean variants?"


ADVICE = [
    ("evaluate: {metrics: [exact, exact]}\n", "Set `name` of one of them, since each needs its own column of scores."),
    ("evaluate: {judges: [{name: a}, {name: a}]}\n", "Rename one of them."),
    ("evaluate: {judges: [{name: a, mode: pairwise}]}\n", "Give baseline or column."),
    ("evaluate: {judges: [{name: a, rubric: x, rubric_file: y}]}\n", "Use one."),
    ("decoding: {top_p: 0.9}\n", "Set a temperature above 0."),
    ("decoding: {num_return_sequences: 2}\n", "Set a temperature above 0."),
]  # fmt: skip


@pytest.mark.parametrize(("added", "hint"), ADVICE)
def test_the_advice_of_a_validator_is_its_hint(write: Write, added: str, hint: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load_job(write(added))
    (problem,) = caught.value.problems
    assert problem.hint == hint
    assert hint[1:] not in problem.message
    assert not problem.message.startswith(problem.key.rpartition(".")[2] + ":")
