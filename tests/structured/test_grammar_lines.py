"""An error of a grammar is reported at its own line of the job file, where the grammar is a block of lines."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import JobFileError
from batchgen.jobfile.load import load_job
from batchgen.run.preflight.input_check import check_input

MakeJob = Callable[..., Path]


@pytest.mark.parametrize(
    ("grammar", "message", "line", "hint"),
    [
        pytest.param(
            '|\n\n      start: foo\n      foo: "a" bar\n',
            'unknown name: "bar" (line 3, column 6 of the grammar)',
            '      foo: "a" bar',
            "Lark",
            id="block",
        ),
        pytest.param(
            "|-\n      start: foo\n      foo: /(?=a)b/\n",
            "is not supported (line 2, column 6 of the grammar)",
            "      foo: /(?=a)b/",
            "without look-around",
            id="regular expression in a block",
        ),
        pytest.param(
            '"start: foo\n\n\n    foo: bar"\n',
            'unknown name: "bar" (line 3, column 6 of the grammar)',
            '  grammar: "start: foo',
            "Lark",
            id="quoted",
        ),
    ],
)
def test_the_line_of_a_grammar_is_named(
    make_job: MakeJob, grammar: str, message: str, line: str, hint: str
) -> None:
    job = make_job(decoding={"response_format": {"grammar": "TEXT"}})
    job.write_text(job.read_text().replace("    grammar: TEXT\n", f"    grammar: {grammar}"))
    with pytest.raises(JobFileError) as caught:
        check_input(load_job(job))
    (problem,) = caught.value.problems
    shown = job.read_text().splitlines()[problem.line - 1]
    assert problem.message.endswith(message)
    assert "|" not in problem.message  # the library's copy of the line
    assert shown.endswith(line)
    assert hint in problem.hint
    place = shown[problem.column - 1 :]
    assert place.startswith(('"a" bar', "/(?=a)b/", "grammar:"))
