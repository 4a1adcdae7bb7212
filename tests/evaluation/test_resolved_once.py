"""The section `evaluate` is resolved once per command: a user's metric module is executed once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.errors import JobFileError
from batchgen.jobfile.load import load_job
from batchgen.metrics.base import Answer
from batchgen.metrics.user_function import UserFunction
from batchgen.run.setup import set_up

MakeJob = Callable[..., Path]
ROWS = [{"q": f"row {number}"} for number in range(12)]
MODULE = """
from pathlib import Path

with (Path(__file__).parent / "executions.txt").open("a") as file:
    file.write("x")

def short(answer):
    return len(answer.response) < 7

def empty(answer):
    return not answer.response
"""
COMMANDS = [["validate", "JOB"], ["plan", "JOB"], ["run", "JOB"]]


@pytest.fixture
def job(make_job: MakeJob, tmp_path: Path) -> Path:
    """A job with two metrics from a module that counts its executions, a schema and a judge."""
    (tmp_path / "metric.py").write_text(MODULE)
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    metrics = [
        {"type": "python", "file": "metric.py", "function": "short", "unit": "fraction"},
        {"type": "python", "file": "metric.py", "function": "empty", "name": "empty"},
        {"type": "json_schema", "schema": "schema.json"},
    ]
    return make_job(ROWS, evaluate={"metrics": metrics, "judges": [{"name": "good"}]})


def executions(job: Path) -> int:
    """How often the module was executed since the last call."""
    counter = job.parent / "executions.txt"
    count = len(counter.read_text()) if counter.exists() else 0
    counter.unlink(missing_ok=True)
    return count


def arguments(words: list[str], job: Path) -> list[str]:
    return [str(job) if word == "JOB" else word for word in words]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_command_executes_the_module_once(job: Path, words: list[str]) -> None:
    assert call(arguments(words, job)) == 0
    assert executions(job) == 1


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_the_command_line_executes_the_module_once(job: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "batchgen", *arguments(words, job)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert executions(job) == 1


def test_score_executes_the_module_once(job: Path, tmp_path: Path) -> None:
    assert call(["run", str(job)]) == 0
    assert executions(job) == 1
    assert call(["score", str(tmp_path / "out")]) == 0
    assert executions(job) == 1
    metric = f"{{type: python, file: {tmp_path / 'metric.py'}, function: short}}"
    other = metric.replace("short", "empty, name: other")
    file, scored = tmp_path / "out" / "responses.parquet", tmp_path / "scored"
    assert call(["score", str(file), "-m", metric, "-m", other, "-o", str(scored)]) == 0
    assert executions(job) == 1


def test_neither_a_gate_nor_compare_executes_the_module_of_a_scored_run(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", str(job)]) == 0
    gate = f"{{metric: python, baseline: {tmp_path / 'out'}, max_drop: 0.9}}"
    sets = [f"evaluate.gates=[{gate}]", f"output.path={tmp_path / 'new'}"]
    executions(job)
    assert call(["run", str(job), *(item for one in sets for item in ("--set", one))]) == 0
    assert executions(job) == 1
    assert call(["compare", str(tmp_path / "out"), str(tmp_path / "new")]) == 0
    assert executions(job) == 0
    assert "python" in capsys.readouterr().out


def test_a_run_scores_with_the_metrics_that_were_checked(job: Path) -> None:
    setup = set_up(load_job(job))
    checked = {m.name: m.metric for m in setup.checked_input.evaluation.measures}
    used = {m.name: m.metric for m in setup.evaluation.measures}
    for name in ("python", "empty", "json_schema"):
        assert used[name] is checked[name]
    assert used["good"] is not checked["good"]


def test_a_changed_module_is_executed_again(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python would keep a compiled copy, and take it for that of the changed file, which has the same size and second.
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    set_up(load_job(job))
    (job.parent / "metric.py").write_text(MODULE.replace("< 7", "< 9"))
    executions(job)
    evaluation = set_up(load_job(job)).evaluation
    assert executions(job) == 1
    (short,) = (m.metric for m in evaluation.measures if m.name == "python")
    assert isinstance(short, UserFunction)
    assert short.function(Answer("a", 0, "8 chars.")) is True


BROKEN = [
    ({"type": "python", "file": "fails.py", "function": "f"}, "fails.py: cannot be imported: fails.py, line 12: ValueError: why", "Correct it; "),
    ({"type": "python", "file": "fails.py", "function": "g"}, "fails.py: cannot be imported: fails.py, line 12: ValueError: why", "Correct it; "),
    ({"type": "python", "file": "gone.py", "function": "f"}, "gone.py: cannot be read: No such file or directory", "Give the path of a Python file."),
    ({"type": "python", "file": "metric.py", "function": "f"}, "metric.py: has no function 'f'", "Set `function` to"),
    ({"type": "json_schema", "schema": "gone.json"}, "gone.json: cannot be read: No such file or directory", "Give the path of a JSON Schema file."),
    ({"type": "json_schema", "schema": "metric.py"}, "metric.py: is not JSON", "Give the path of a JSON Schema file."),
]  # fmt: skip


def test_every_metric_that_cannot_be_created_is_reported_at_its_entry(
    job: Path, tmp_path: Path, make_job: MakeJob
) -> None:
    (tmp_path / "fails.py").write_text(MODULE + "raise ValueError('why')")
    executions(job)
    metrics: list[object] = [{**entry, "name": f"m{n}"} for n, (entry, *_) in enumerate(BROKEN)]
    evaluate = {"reference": "gone", "metrics": ["exact", *metrics], "gates": [{"metric": "m0", "min": 0}]}  # fmt: skip
    with pytest.raises(JobFileError) as caught:
        set_up(load_job(make_job(ROWS, evaluate=evaluate)))
    found = {problem.key: problem for problem in caught.value.problems}
    assert set(found) == {"evaluate.reference", *(f"evaluate.metrics[{n}]" for n in range(1, 7))}
    for number, (_, message, hint) in enumerate(BROKEN, 1):
        problem = found[f"evaluate.metrics[{number}]"]
        assert problem.message == f"{tmp_path}/{message}"
        assert problem.hint.startswith(hint)
        assert problem.line > 0
    assert executions(job) == 2, "fails.py and metric.py"
