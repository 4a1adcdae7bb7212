"""Invalid job files: each message has file, line, column, key, the value found or expected, and a hint."""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen.errors import JobFileError, Problem
from batchgen.jobfile.load import load_job

Write = Callable[..., Path]


class Case(NamedTuple):
    """Lines added to the job of conftest, and the problem that they cause."""

    name: str
    added: str
    position: str
    key: str
    message: str
    hint: str = ""


CASES = [
    Case("unknown key", "decoding:\n  temprature: 1\n", "8:3", "decoding.temprature", "unknown key", "Did you mean temperature?"),
    Case("key of another section", "temperature: 1\n", "7:1", "temperature", "unknown key", "Did you mean decoding.temperature?"),
    Case("synonym in the wrong place", "max_tokens: 1\n", "7:1", "max_tokens", "unknown key", "Did you mean decoding.max_tokens?"),
    Case("dotted key", "decoding.top_k: 1\n", "7:1", "decoding.top_k", "unknown key", "Write top_k on a line of its own beneath decoding:."),
    Case("key like one of another section", "run: {temprature: 1}\n", "7:7", "run.temprature", "unknown key", "Did you mean decoding.temperature?"),
    Case("key like nothing", "run: {xyz: 1}\n", "7:7", "run.xyz", "unknown key", "Use one of seed, workers, max_error_rate, max_error_count, max_runtime, max_total_tokens."),
    Case("transformers' do_sample", "decoding: {do_sample: true}\n", "7:12", "decoding.do_sample", "unknown key", "Leave it out: sampling is on when decoding.temperature is above 0."),
    Case("another tool's name", "batching: {batch_size: 8}\n", "7:12", "batching.batch_size", "unknown key", "Use batching.max_rows."),
    Case("key of run at the top", "workers: 2\n", "7:1", "workers", "unknown key", "Did you mean run.workers?"),
    Case("time limit at the top", "max_runtime: 5h\n", "7:1", "max_runtime", "unknown key", "Did you mean run.max_runtime?"),
    Case("key that no section has", "quantization: int4\n", "7:1", "quantization", "unknown key", "Use one of version, name, description, input, prompt, model, decoding, batching, output, redact, evaluate, run, extends, vars, profiles, matrix."),
    Case("duplicate key", "name: other\n", "7:1", "name", "given twice (lines 2 and 7)", "Keep one of them."),
    Case("synonym twice", "decoding: {max_tokens: 3, max_new_tokens: 4}\n", "7:27", "decoding.max_new_tokens", "given together with max_tokens, which is the same setting", "Keep max_new_tokens."),
    Case("no is no boolean", "decoding: {logprobs: no}\n", "7:12", "decoding.logprobs", "expected true or false, or a whole number from 0 to 20; found the text 'no'", "Write false."),
    Case("number for text", "description: 12\n", "7:1", "description", "expected text; found 12", "Quote it: '12'."),
    Case("boolean for text", "description: true\n", "7:1", "description", "expected text; found true", "Quote it: 'true'."),
    Case("number in a list of texts", "decoding: {stop: [a, 1]}\n", "7:22", "decoding.stop_strings[1]", "expected text; found 1", "Quote it: '1'."),
    Case("share in percent", "run: {max_error_rate: 2.5 %}\n", "7:7", "run.max_error_rate", "expected a number from 0 to 1; found the text '2.5 %'", "Write 0.025."),
    Case("leading zeros", "run: {seed: 007}\n", "7:7", "run.seed", "expected a whole number from 0 to 2^63 - 1; found the text '007'", "Write 7, without quotes, separators or leading zeros."),
    Case("sexagesimal", "run: {seed: 12:30}\n", "7:7", "run.seed", "expected a whole number from 0 to 2^63 - 1; found the text '12:30'"),
    Case("fraction for a whole number", "batching: {part_rows: 4.0}\n", "7:12", "batching.part_rows", "expected a whole number from 1 to 1,000,000; found 4.0", "Write 4."),
    Case("union in one message", "batching: {max_rows: many}\n", "7:12", "batching.max_rows", "expected a whole number of at least 1, or auto; found the text 'many'"),
    Case("boolean for a number", "batching: {max_rows: true}\n", "7:12", "batching.max_rows", "expected a whole number of at least 1, or auto; found true"),
    Case("not a number", "decoding: {temperature: 1, top_p: .nan}\n", "7:28", "decoding.top_p", "expected a number above 0 and at most 1; found .nan"),
    Case("top_p above 1", "decoding: {temperature: 1, top_p: 1.5}\n", "7:28", "decoding.top_p", "expected a number above 0 and at most 1; found 1.5"),
    Case("negative", "decoding: {temperature: -1}\n", "7:12", "decoding.temperature", "expected a number from 0 to 10; found -1"),
    Case("infinite", "decoding: {repetition_penalty: 1e999}\n", "7:12", "decoding.repetition_penalty", "expected a number above 0 and at most 10; found .inf"),
    Case("infinite in a free mapping", "decoding: {generation_kwargs: {a: [.inf]}}\n", "7:12", "decoding.generation_kwargs", "contains a number that is infinite or .nan; expected a finite number"),
    Case("huge number", "run: {seed: 99999999999999999999}\n", "7:7", "run.seed", "a number that does not fit into 64 bits", "Quote it if it is text."),
    Case("no effect", "decoding: {top_p: 0.9}\n", "7:12", "decoding.top_p", "top_p has no effect: decoding is greedy", "Set a temperature above 0."),
    Case("more samples than beams", "decoding: {num_beams: 2, n: 3, temperature: 0}\n", "7:26", "decoding.num_return_sequences", "3 is more than num_beams: 2"),
    Case("a second place for a setting", "decoding: {generation_kwargs: {temperature: 1}}\n", "7:32", "decoding.generation_kwargs.temperature", "temperature has its own key: decoding.temperature"),
    Case("column for what has none", "decoding: {columns: {stop_strings: s}}\n", "7:22", "decoding.columns.stop_strings", "stop_strings cannot come from a column; these can: max_new_tokens, min_new_tokens, temperature, top_p, top_k, min_p, repetition_penalty, no_repeat_ngram_size"),
    Case("number for a list of types", "evaluate: {metrics: 7}\n", "7:12", "evaluate.metrics", "expected a list of mappings; found 7", "Write a list of types, such as [exact]."),
    Case("boolean for a list of types", "evaluate: {metrics: true}\n", "7:12", "evaluate.metrics", "expected a list of mappings; found true", "Write a list of types, such as [exact]."),
    Case("mapping for a list", "evaluate: {metrics: {exact: 1}}\n", "7:12", "evaluate.metrics", "expected a list of mappings; found a mapping", "Write a list: begin each item with a dash."),
    Case("mapping for a list of gates", "evaluate: {gates: {metric: exact, min: 0.5}}\n", "7:12", "evaluate.gates", "expected a list of mappings; found a mapping", "Write a list: begin each item with a dash."),
    Case("number for a list", "evaluate: {gates: 3}\n", "7:12", "evaluate.gates", "expected a list of mappings; found 3", "Write a list: one item in square brackets, or several."),
    Case("type like another", "evaluate: {metrics: [exat]}\n", "7:22", "evaluate.metrics[0]", "expected a type; found the text 'exat'", "Did you mean exact?"),
    Case("text for a section", "decoding: greedy\n", "7:1", "decoding", "expected a mapping; found the text 'greedy'", "Write its keys on lines beneath: preset, max_new_tokens, min_new_tokens, temperature, top_p, top_k, min_p, repetition_penalty, no_repeat_ngram_size, num_beams, length_penalty, stop_strings, num_return_sequences, logprobs, response_format, columns, generation_kwargs."),
    Case("empty text", "profiles: {p: {model: {revision: ''}}}\n", "7:24", "profiles.p.model.revision", "expected text; found an empty text", "Leave the key out."),
    Case("empty text in a list", "decoding: {response_format: {choice: [a, '']}}\n", "7:42", "decoding.response_format.choice[1]", "expected text; found an empty text", "Write a text, or remove the item."),
    Case("text twice in a choice", "decoding: {response_format: {choice: [a, a]}}\n", "7:30", "decoding.response_format.choice", "contains a text twice", "Remove one of them."),
    Case("two forms", "decoding: {response_format: {regex: a, choice: [a]}}\n", "7:40", "decoding.response_format.choice", "choice cannot be combined with regex: an answer has one form", "Remove one of them."),
    Case("variable that is not set", "description: ${env:BATCHGEN_NOT_SET}\n", "7:1", "description", "the environment variable BATCHGEN_NOT_SET is not set, or empty", "Export BATCHGEN_NOT_SET=..., or write a default: ${env:BATCHGEN_NOT_SET:-value}."),
    Case("vars as a list", "vars: [1]\n", "7:1", "vars", "expected a mapping of names to values", "Write vars: {NAME: value}."),
    Case("mapping as a variable", "vars: {a: {b: 1}}\n", "7:8", "vars.a", "expected text, a number or true/false; found a list or a mapping", "Write a single value."),
    Case("profiles as a list", "profiles: [a]\n", "7:1", "profiles", "expected a mapping of names to settings", "Write, for example, smoke: {input: {limit: 8}}."),
    Case("profile in a profile", "profiles: {p: {profiles: {}}}\n", "7:16", "profiles.p.profiles", "not allowed in a profile", "Write it at the top of the file."),
    Case("unknown key in a profile that is not chosen", "profiles: {p: {decoding: {temprature: 1}}}\n", "7:27", "profiles.p.decoding.temprature", "unknown key", "Did you mean temperature?"),
    Case("wrong value in a profile that is not chosen", "profiles: {p: {decoding: {top_k: x}}}\n", "7:27", "profiles.p.decoding.top_k", "expected a whole number of at least 0; found the text 'x'"),
    Case("no base file", "extends: nowhere.yaml\n", "7:1", "extends", "no such file: FOLDER/nowhere.yaml", "Check the path: it is relative to the file that contains it."),
    Case("circle of base files", "extends: job.yaml\n", "7:1", "extends", "the files extend each other in a circle: job.yaml -> job.yaml", "Remove one of the extends."),
    Case("number as base file", "extends: 3\n", "7:1", "extends", "expected the name of a file, or a list of them", "Write extends: base.yaml, or a list of files."),
]  # fmt: skip


HOSTILE = {
    "deep lists": "vars: " + "[" * 3000 + "]" * 3000,
    "deep mappings": "vars: " + "{a: " * 3000 + "1" + "}" * 3000,
    "deep skipped key": "vars: {? " + "[" * 300 + "]" * 300 + " : 1}",
    "deep block": "vars:\n" + "".join(" " * n + "- \n" for n in range(1, 200)),
    "huge integer": "run: {seed: 1" + "0" * 5000 + "}",
    "huge hexadecimal": "run: {seed: 0x" + "F" * 5000 + "}",
    "huge exponent": "decoding: {temperature: 1e99999}",
    "huge limit": "batching: {max_tokens: 99999999999999999999}",
    "NUL": "description: a\0b",
    "escaped NUL": 'description: "a\\0b"',
    "lone surrogate": 'description: "\\uD800"',
    "escape out of range": 'description: "\\UFFFFFFFF"',
    "version out of range": "%YAML " + "9" * 5000 + ".1\n--- {}",
    "billion laughs": "vars: {a: &a [x, x], b: &b [*a, *a], c: [*b, *b]}",
    "recursive alias": "vars: &v {a: *v}",
    "extends itself": "extends: [job.yaml, job.yaml]",
    "long base file": "extends: " + "x" * 5000,
    "unknown user": "extends: ~nobody_here/x.yaml",
    "long unknown key": "k" * 5000 + ": 1",
    "long placeholder": "description: ${" + "x" * 5000 + "}",
    "many unknown keys": "\n".join(f"key{n}: 1" for n in range(500)),
    "many problems in profiles": "profiles: {"
    + ", ".join(f"p{n}: {{x: 1}}" for n in range(300))
    + "}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_an_error_with_a_hint(write: Write, text: str) -> None:
    found = problems(write(text + "\n"))
    assert all(p.hint or p.message.startswith(("and ", "expected ")) for p in found), found


def test_very_long_paths_and_numbers_of_the_command_line_are_errors(write: Write) -> None:
    for one in ("a." * 3000 + "b=1", "run.seed=" + "9" * 5000, "name=" + "[" * 3000):
        assert only(write(), sets=(one,)).message


def problems(
    path: Path, *, sets: tuple[str, ...] = (), profile: str | None = None
) -> tuple[Problem, ...]:
    with pytest.raises(JobFileError) as caught:
        load_job(path, overrides=sets, profile=profile)
    assert int(caught.value.exit_code) == 2
    return caught.value.problems


def only(path: Path, *, sets: tuple[str, ...] = (), profile: str | None = None) -> Problem:
    found = problems(path, sets=sets, profile=profile)
    assert len(found) == 1, [p.message for p in found]
    return found[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_error(write: Write, case: Case) -> None:
    path = write(case.added)
    found = only(path)
    assert found.message.replace(str(path.parent), "FOLDER") == case.message
    assert (f"{found.line}:{found.column}", found.key, found.hint) == case[2:4] + case[5:]
    assert found.file == str(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(b"", ":1:1: is empty", id="empty"),
        pytest.param(b"# nothing\n\n", ":1:1: is empty", id="only comments"),
        pytest.param(b"- a\n", ":1:1: expected a mapping at the top, found a list", id="list"),
        pytest.param(b"hello\n", ":1:1: expected a mapping at the top, found a single", id="text"),
        pytest.param(b"a: \xff\n", ":1:1: not UTF-8 text: byte 0xff at offset 3", id="latin-1"),
        pytest.param("a: 1\nb: 语\n".encode("gb18030"), ":2:1: not UTF-8 text: byte 0xd3", id="gb18030" ),
        pytest.param("version: 1\n".encode("utf-16"), ":1:1: not UTF-8 text: byte 0xff at offset 0", id="utf-16"),
        pytest.param("a: 1\n".encode("utf-16-le"), ":1:1: the character U+0000", id="utf-16 unmarked" ),
        pytest.param(b"a: 1\0", ":1:1: the character U+0000", id="NUL"),
        pytest.param(b"#" * (2**20 + 1), ": larger than 1,048,576 bytes", id="too large"),
        pytest.param(b"version: 2\nx: y\n", ":1:1: version: version 2 of the job format", id="newer version"),
        pytest.param(b"version: true\n", ":1:1: version: expected 1; found true", id="true as version" ),
    ],
)  # fmt: skip
def test_files_that_are_not_jobs(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(text)
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    assert str(caught.value).startswith(f"{path}{words}")


def test_the_hint_for_an_empty_file_is_a_complete_job(write: Write) -> None:
    hint = only(write(text="")).hint
    minimal = hint.removeprefix("A minimal job is:\n").replace("\n         ", "\n").strip()
    assert load_job(write(text=minimal, name="minimal.yaml")).job.name == "my-job"


def test_a_newer_version_is_the_only_problem(write: Write, job_text: str) -> None:
    newer = job_text.replace("version: 1", "version: 2") + "unknown: 1\n"
    found = only(write(text=newer))
    assert found.message == "version 2 of the job format; this batchgen reads up to 1"
    assert (found.key, found.line, found.hint) == (
        "version",
        1,
        "Update batchgen: pip install -U batchgen-llm.",
    )


def test_a_missing_job_file(write: Write, tmp_path: Path) -> None:
    write(name="nightly.yaml")
    found = only(tmp_path / "nightly.yml")
    assert (found.message, found.hint) == (
        "no such file",
        f"Did you mean {tmp_path / 'nightly.yaml'}?",
    )
    assert only(tmp_path).message == "is a folder; expected a file"
    os.mkfifo(tmp_path / "pipe")  # without a writer: to open it would wait for ever
    reader, writer = os.pipe()
    for path, kind in {
        tmp_path / "pipe": "a pipe",
        Path(f"/dev/fd/{reader}"): "a pipe",
        Path("/dev/zero"): "a device or socket",
    }.items():
        problem = only(path)
        assert problem.message.startswith(f"is {kind}; expected a file, which can be read again")
        assert problem.hint.startswith("Save the job as a file.")
    os.close(reader)
    os.close(writer)
    assert only(Path("a\0b")).message == "cannot be read: embedded null byte"
    assert only(Path("x" * 5000)).message == "cannot be read: File name too long"
    circle = tmp_path / "circle.yaml"
    circle.symlink_to(circle)
    assert only(circle).message.startswith("cannot be read: ")


def test_all_errors_are_reported_at_once_in_line_order(write: Write) -> None:
    text = """\
version: 1
name: has spaces
input: {path: 3, colums: {id: x}}
prompt: {user: {{ question }}}
model: {dtype: fp16, path: x}
decoding: {temperature: yes, temperature: 1}
output: {path: out, path_: y}
run: {seed: ${env:BATCHGEN_NOT_SET}}
""".replace("${env:BATCHGEN_NOT_SET}", "'${env:BATCHGEN_NOT_SET}'")
    assert [(p.line, p.key) for p in problems(write(text=text))] == [
        (2, "name"),
        (3, "input.path"),
        (3, "input.colums"),
        (4, "prompt.user"),
        (5, "model.dtype"),
        (6, "decoding.temperature"),
        (7, "output.path_"),
        (8, "run.seed"),
    ]


def test_missing_keys_are_reported_at_their_place(write: Write) -> None:
    text = "version: 1\ninput: {}\nmodel: demo:x\n"
    assert [(p.line, p.key, p.message) for p in problems(write(text=text))] == [
        (1, "name", "is required"),
        (1, "output", "is required"),
        (2, "input.path", "is required"),
    ]


def test_a_message_shows_the_line_and_marks_the_key(write: Write) -> None:
    path = write("decoding:\n  temprature: 1\n")
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    assert str(caught.value).splitlines() == [
        f"{path}:8:3: decoding.temprature: unknown key",
        "     8 |   temprature: 1",
        "       |   ^",
        "       = hint: Did you mean temperature?",
    ]


@pytest.mark.parametrize(
    ("given", "key", "message", "hint"),
    [
        ("decoding.temprature=1", "decoding.temprature", "unknown key (given by --set)", "Did you mean temperature?"),
        ("decoding.top_k=[", "decoding.top_k", "not valid YAML: wrong indentation, or text after a closed value (given by --set)", "Align the keys of a section; quote values as a whole."),
        ("decoding.top_k=x", "decoding.top_k", "expected a whole number of at least 0; found the text 'x' (given by --set)", ""),
        ("run.seed", "", "--set run.seed: expected KEY=VALUE with a key such as decoding.temperature", "s"),
        ("=3", "", "--set =3: expected KEY=VALUE with a key such as decoding.temperature", "s"),
        ("a..b=3", "", "--set a..b=3: expected KEY=VALUE with a key such as decoding.temperature", "s"),
        ("extends=x.yaml", "extends", "not allowed in --set", "Write it in the job file."),
        ("name=\udcff", "name", "not UTF-8 text (given by --set)", "Use a text that is UTF-8."),
    ],
)  # fmt: skip
def test_errors_of_set(write: Write, given: str, key: str, message: str, hint: str) -> None:
    found = only(write(), sets=(given,))
    assert (found.key, found.message, found.line) == (key, message, 0)
    assert found.hint == ("Set lists as a whole: KEY=[a, b]." if hint == "s" else hint)


def test_an_unknown_profile(write: Write) -> None:
    found = only(write("profiles: {smoke: null, night: {}}\n"), profile="smok")
    assert (found.key, found.hint) == ("profiles", "Did you mean smoke?")
    assert found.message == "no profile 'smok'; profiles: smoke, night"


def test_an_unused_profile_may_use_undefined_variables(write: Write) -> None:
    path = write(
        "profiles:\n"
        "  other: {run: {seed: '${env:BATCHGEN_NOT_SET}'}, decoding: {top_p: 0.5}}\n"
        "  third: {run: {seed: '${vars.n}'}}\n"
        "vars: {n: 3}\n"
    )
    assert load_job(path).job.run.seed == 0
    assert load_job(path, profile="third").job.run.seed == 3
    assert [p.key for p in problems(path, profile="other")] == ["run.seed"]


def test_problems_of_a_base_file_name_the_base_file(write: Write, tmp_path: Path) -> None:
    write(name="base/base.yaml", text="run: {sed: 1}\ndecoding: {top_k: 1, top_k: 2}\n")
    with pytest.raises(JobFileError) as caught:
        load_job(write("extends: base/base.yaml\nbatching: {sort: 1}\n"))
    base = str(tmp_path / "base/base.yaml")
    assert [(p.file, p.line, p.key) for p in caught.value.problems] == [
        (str(tmp_path / "job.yaml"), 8, "batching.sort"),
        (base, 1, "run.sed"),
        (base, 2, "decoding.top_k"),
    ]
    assert f"{base}:1:7: run.sed: unknown key\n     1 | run: {{sed: 1}}" in str(caught.value)


def test_a_secret_from_the_environment_is_not_shown(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHGEN_TEST_KEY", "s3cret")
    with pytest.raises(JobFileError) as caught:
        load_job(write("run: {seed: '${env:BATCHGEN_TEST_KEY}'}\n"))
    assert "s3cret" not in str(caught.value)
    assert "another text (from ${env:BATCHGEN_TEST_KEY})" in str(caught.value)


def test_a_password_in_an_address_is_not_shown(write: Write) -> None:
    path = write("model: {engine: openai, base_url: 'http://user:secret@host:1/v1'}\n")
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    assert "http://***********@host:1/v1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_of_very_many_problems_the_first_hundred_are_shown(write: Write) -> None:
    found = problems(write("".join(f"key{i}: 1\n" for i in range(300))))
    assert len(found) == 101
    assert found[0].message.startswith("and ")


PIECES = re.split(
    "~",
    """\
: ~- ~{~}~[~]~,~'~"~&a ~*a~!!str ~${env:HOME}~${~$${~${vars.n}~${date:%~${name}~{{ x }}~<<: ~# ~\
1e999~.nan~null~true~0x1F~99999999999999999999~\\~\\U00110000~é~语~\U0001f600~../~**/~s3://~\
decoding: {n: ~model: ~prompt: ~version: ~vars: {n: ~input.~profiles:~extends: job.yaml~\
\n~\n  ~\t~|~---\n~\0~\x85""",
)
FRAGMENTS = st.sampled_from([*PIECES, "~", "~nobody/"])
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), FRAGMENTS), min_size=1, max_size=6)
WHOLE = """\
version: 1
name: demo
vars: {n: 3, shop: "Acme"}
input:
  path: [data/*.csv, more/]
  columns: {id: key}
  limit: ${vars.n}
prompt:
  messages:
    - {role: system, content: "For ${vars.shop}."}
    - role: user
      content: |
        Question: {{ question }}
model: {path: demo:smollm2-135m, dtype: float32}
decoding: {temperature: 0.7, max_tokens: 20, stop: ["\\n\\n"], generation_kwargs: {a: [1, null]}}
output: {path: "out/${name}-${date:%Y%m%d}"}
run: {seed: 1e0}
profiles:
  smoke: {input: {limit: 2}, decoding: {temperature: null}}
"""


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EDITS, st.sampled_from([None, "smoke"]))
def test_a_damaged_job_is_read_or_rejected(
    write: Write, edits: list[tuple[float, int, str]], profile: str | None
) -> None:
    text = WHOLE
    for position, deleted, inserted in edits:
        at = round(position * len(text))
        text = text[:at] + inserted + text[at + deleted :]
    path = write(text=text)
    with suppress(JobFileError):
        load_job(path, profile=profile)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_random_bytes_are_rejected_as_a_job_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(data)
    with pytest.raises(JobFileError):
        load_job(path)


@pytest.mark.timing
def test_a_check_is_fast(write: Write) -> None:
    path = write()
    started = time.process_time()
    load_job(path)
    assert time.process_time() - started < 0.5
