"""A user's metric is tried on one row before the first answer is generated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.__main__ import call
from batchgen.errors import JobFileError
from batchgen.jobfile.load import load_job
from batchgen.run.plan import plan
from batchgen.run.run import run
from tests.reporters import RecordingReporter

MakeJob = Callable[..., Path]
ROWS = [{"q": f"say {n}", "gold": "18", "lang": "zh" if n else "en"} for n in range(4)]


def job_with(make_job: MakeJob, tmp_path: Path, code: str, **options: Any) -> Path:
    """A job with the function `f` of a module as metric, and another one that works."""
    (tmp_path / "mine.py").write_text(
        f"import re, json\n{code}\n\ndef good(answer):\n    return 1\n"
    )
    metrics = [
        {"type": "python", "file": "mine.py", "function": "f", "name": "broken", **options},
        {"type": "python", "file": "mine.py", "function": "good", "name": "good"},
    ]
    return make_job(ROWS, evaluate={"reference": "gold", "metrics": metrics})


BROKEN = [
    ("def f(answer):\n    raise ValueError('x')", {}, "mine.py, line 3: ValueError: x"),
    ("def f(answer):\n    return 1 / 0", {}, "mine.py, line 3: ZeroDivisionError: division by zero"),
    ("def f(answer):\n    return answer.fields['gone']", {}, "mine.py, line 3: KeyError: 'Field \"gone\" does not exist in schema'"),
    ("def f(answer):\n    return answer.response.size()", {}, "line 3: AttributeError: 'str' object"),
    ("def f(answer):\n    return answer.reply", {}, "line 3: AttributeError: "),
    ("def f(answer):\n    return len(answer.response) + undefined", {}, "line 3: NameError: name 'undefined'"),
    ("def f():\n    return 1", {}, "mine.py: TypeError: f() takes 0 positional arguments"),
    ("def f(answer):\n    return float('nan')", {}, "line 2: f returned nan; expected a finite number"),
    ("def f(answer):\n    return float('inf')", {}, "f returned inf; expected a finite number"),
    ("def f(answer):\n    return 1e308", {}, "f returned 1e+308; expected -1e+100 to 1e+100"),
    ("def f(answer):\n    return '1'", {}, "f returned the text '1'; expected a number"),
    ("def f(answer):\n    return 2.0", {"unit": "fraction"}, "f returned 2; expected 0 to 1"),
    ("def f(answer):\n    return answer.response", {}, "f returned the text '18'"),
    ("import sys\ndef f(answer):\n    sys.exit(1)", {}, "line 4: SystemExit: 1"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "options", "words"), BROKEN)
def test_a_broken_metric_is_an_error_before_the_first_answer(
    make_job: MakeJob, tmp_path: Path, code: str, options: dict[str, Any], words: str
) -> None:
    def opener(*_: object, **__: object) -> Any:
        raise AssertionError("the engine must not be opened")

    job = load_job(job_with(make_job, tmp_path, code, **options))
    with pytest.raises(JobFileError) as caught:
        run(job, opener=opener)
    (problem,) = caught.value.problems
    assert problem.key == "evaluate.metrics[0]"
    assert words in problem.message
    assert problem.message.startswith("broken, tried on the first row: mine.py")
    assert problem.line > 0
    with pytest.raises(JobFileError):
        plan(job)


@pytest.mark.parametrize(
    "code",
    [
        "def f(answer):\n    return int(answer.response) == 18",
        "def f(answer):\n    return json.loads(answer.response)['score']",
        "def f(answer):\n    return re.search('#### (.+)', answer.response).group(1) == '18'",
        "def f(answer):\n    return None",
        "def f(answer):\n    return answer.prompt.startswith('say') and answer.fields['q'] != ''",
        "def f(answer):\n    assert answer.references == ('18',)\n    return 1",
    ],
)
def test_a_metric_that_scores_some_text_is_accepted(
    make_job: MakeJob, tmp_path: Path, code: str
) -> None:
    lines: list[str] = []
    reporter = RecordingReporter(lines)
    assert run(load_job(job_with(make_job, tmp_path, code)), reporter=reporter).outcome == "done"
    assert not any("tried on" in line for line in lines)


@pytest.mark.parametrize(
    "code",
    [
        "def f(answer):\n    return int(answer.response.split('Result')[1])",
        "def f(answer):\n    return len(re.search('Result', answer.response).group())",
    ],
)
def test_an_error_that_may_depend_on_the_answer_is_only_reported(
    make_job: MakeJob, tmp_path: Path, code: str
) -> None:
    lines: list[str] = []
    reporter = RecordingReporter(lines)
    assert run(load_job(job_with(make_job, tmp_path, code)), reporter=reporter).outcome == "done"
    (line,) = (line for line in lines if "tried on" in line)
    assert "broken, tried on the first row: mine.py, line 3: " in line
    assert line.endswith("; it may work with the model's answers")


def test_the_first_row_that_the_metric_scores_is_tried(make_job: MakeJob, tmp_path: Path) -> None:
    code = "def f(answer):\n    assert answer.fields['lang'] == 'zh'\n    return 1"
    assert run(load_job(job_with(make_job, tmp_path, code, where="lang = 'zh'"))).outcome == "done"
    with pytest.raises(JobFileError, match="AssertionError"):
        run(load_job(job_with(make_job, tmp_path, code)), start="fresh")
    job = job_with(make_job, tmp_path, code, where="lang = 'de'")
    assert run(load_job(job), start="fresh").outcome == "done"


def test_score_prints_file_line_and_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 0, "response": "x"}\n')
    (tmp_path / "mine.py").write_text("def over(answer):\n    return 2.0\n")
    metric = f"{{type: python, file: {tmp_path}/mine.py, function: over, unit: fraction}}"
    output = str(tmp_path / "scored")
    assert call(["score", str(tmp_path / "rows.jsonl"), "-m", metric, "-o", output]) == 0
    err = capsys.readouterr().err
    assert "1 row error (first: mine.py, line 1: over returned 2; expected 0 to 1" in err
