"""Text of rows is only in the output and in saved state: every byte of all other files and messages is searched.

Jobs run from the command line with marked text in cells; the echo engine answers with the prompt. The text of the
job file itself is its author's, and may be repeated.
"""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.__main__ import call

MakeJob = Callable[..., Path]
Build = Callable[[Path], None]

CANARY = "CANARY7f3a"
MEANT_TO_HOLD_TEXT = ("*.parquet", "*.bgpart", "journal*", "*.tmp")


def command(*arguments: object, code: str = "") -> list[str]:
    """batchgen in a separate process, after `code`."""
    script = f"{code}\nfrom batchgen.__main__ import main; main()"
    return [sys.executable, "-c", script, *map(str, arguments)]


def batchgen(*arguments: object, code: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*arguments, code=code), capture_output=True, check=False)


def leaks(
    folder: Path,
    *printed: subprocess.CompletedProcess[bytes] | pytest.CaptureFixture[bytes],
    text: str = CANARY,
) -> list[str]:
    """The places of the text outside the files that may contain it."""
    spoken = [
        (one.stdout, one.stderr)
        if isinstance(one, subprocess.CompletedProcess)
        else one.readouterr()
        for one in printed
    ]
    found = [words.decode() for pair in spoken for words in pair if text.encode() in words]
    files = [p for p in folder.rglob("*") if p.is_file()]
    strict = [p for p in files if not any(p.match(pattern) for pattern in MEANT_TO_HOLD_TEXT)]
    found += [str(p) for p in strict if text.encode() in p.read_bytes()]
    return found + [str(p) for p in files if text in p.name]


ROWS: Mapping[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "answered": ([{"q": CANARY}] * 3, {}),
    "system and prefill": ([{"q": CANARY}], {"prompt": {"system": "{{ q }}", "prefill": "{{ q }}"}}),
    "reasoning": ([{"q": f"<think>{CANARY}</think>{CANARY}"}], {}),
    "null": ([{"q": None, "x": CANARY}], {"prompt": {"user": "{{ q }}{{ x }}"}}),
    "empty": ([{"q": " ", "x": CANARY}], {}),
    "a filter that fails": ([{"q": CANARY}], {"prompt": {"user": "{{ q | round }}"}}),
    "a value that is not there": ([{"q": CANARY}], {"prompt": {"user": "{{ q.nothing }} {{ q[99] }}"}}),
    "a key that is not there": ([{"q": {"a": CANARY}}], {"prompt": {"user": "{{ q[q.a] }}"}}),
    "a number that is text": ([{"q": CANARY}], {"prompt": {"user": "{{ q + 1 }}"}}),
    "a format that fails": ([{"q": CANARY}], {"prompt": {"user": "{{ '%d' | format(q) }}"}}),
    "the sandbox": ([{"q": CANARY}], {"prompt": {"user": "{{ q.__class__ }}"}}),
    "too long": ([{"q": CANARY * 100}], {"prompt": {"max_input_tokens": 5}}),
    "too long to cut": ([{"q": CANARY}], {"prompt": {"user": "much " * 9 + "{{ q }}", "max_input_tokens": 9, "on_overflow": "truncate_left"}}),
    "longer than any prompt": ([{"q": CANARY * 200_000}], {}),
    "half a surrogate pair": ([{"q": f"{CANARY}\ud800"}], {}),
    "not messages": ([{"q": CANARY}], {"prompt": {"user": None}, "input": {"columns": {"messages": "q"}}}),
    "a role": ([{"q": [{"role": CANARY, "content": CANARY}]}], {"prompt": {"user": None}, "input": {"columns": {"messages": "q"}}}),
    "a setting": ([{"q": "x", "t": CANARY}], {"decoding": {"columns": {"temperature": "t"}}}),
    "a stop string": ([{"q": f"{CANARY} stop {CANARY}"}], {"decoding": {"stop_strings": ["stop"]}}),
    "logprobs": ([{"q": CANARY}], {"decoding": {"logprobs": True, "num_return_sequences": 2, "temperature": 1.0}}),
    "control characters": ([{"q": f"\x1b]0;{CANARY}\x07\x00{CANARY}"}], {}),
    "parts": ([{"q": CANARY}] * 9, {"batching": {"part_rows": 2}, "output": {"layout": "parts"}}),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "sections"), ROWS.values(), ids=ROWS.keys())
def test_no_leak_from_rows_of_every_kind(
    rows: list[dict[str, Any]],
    sections: dict[str, Any],
    make_job: MakeJob,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    job = make_job(**sections)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call(["run", str(job)]) in (0, 3)
    assert call(["status", str(tmp_path / "out")]) == 0
    assert list((tmp_path / "out").rglob("*.parquet"))
    assert leaks(tmp_path / "out", capfdbinary) == []


def parquet(**columns: Any) -> Build:
    return lambda path: pq.write_table(pa.table(columns), path)


def text(content: str | bytes) -> Build:
    def build(path: Path) -> None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return build


INPUTS: Mapping[str, tuple[str, Build, dict[str, Any]]] = {
    "a short row": ("x.csv", text(f"id,q\n1,{CANARY}\n2\n"), {}),
    "a long row": ("x.csv", text(f"id,q\n1,{CANARY},{CANARY}\n"), {}),
    "an open quote": ("x.csv", text(f'id,q\n1,"{CANARY}\n'), {}),
    "text behind a quote": ("x.csv", text(f'id,q\n1,"a"{CANARY}\n'), {}),
    "broken UTF-8": ("x.csv", text(f"q\n{CANARY}\n".encode() + b"\xff\xfe\n"), {}),
    "broken UTF-8 in JSON": ("x.jsonl", text(b'{"q": "' + CANARY.encode() + b'\xff"}\n'), {}),
    "no JSON": ("x.jsonl", text(f'{{"q": {CANARY}}}\n'), {}),
    "no object": ("x.jsonl", text(f'["{CANARY}"]\n'), {}),
    "a torn line": ("x.jsonl", text(f'{{"q": "{CANARY}'), {}),
    "NaN": ("x.jsonl", text(f'{{"q": "{CANARY}", "n": NaN}}\n'), {}),
    "bytes as prompts": ("x.parquet", parquet(q=[CANARY.encode()]), {"columns": {"prompt": "q"}}),
    "a footer cut off": ("x.parquet", text(b"PAR1" + CANARY.encode() * 9), {}),
    "a filter that converts": ("x.csv", text(f"q\n{CANARY}\n"), {"filter": "CAST(q AS INT) > 0"}),
    "a filter that leaves nothing": ("x.csv", text(f"q\n{CANARY}\n"), {"filter": "q = 'a'"}),
    "lists as ids": ("x.parquet", parquet(q=["a"], id=[[CANARY]]), {}),
    "no id": ("x.csv", text(f"id,q\n,{CANARY}\n"), {}),
}  # fmt: skip


@pytest.mark.parametrize(("name", "build", "settings"), INPUTS.values(), ids=INPUTS.keys())
def test_no_leak_from_unusable_input(
    name: str,
    build: Build,
    settings: dict[str, Any],
    make_job: MakeJob,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    build(tmp_path / name)
    prompt: dict[str, Any] = {"prompt": {"user": None}} if "columns" in settings else {}
    job = make_job(input={"path": name, **settings}, **prompt)
    assert call(["run", str(job), "--json"]) == 5
    assert call(["plan", str(job)]) == 5
    assert leaks(tmp_path / "out", capfdbinary) == []


def test_the_report_of_a_bug_does_not_quote_the_row(make_job: MakeJob, tmp_path: Path) -> None:
    """Messages of foreign errors may quote the row; only their place in the code is shown."""
    bug = """
import batchgen.engines.echo as echo
def answer(self, request):
    try:
        raise KeyError(self._decode(request.token_ids))
    except KeyError as error:
        raise ValueError(f"cannot convert {error}") from error
echo.EchoEngine._answer = answer
"""
    job = make_job([{"q": CANARY}])
    done = batchgen("run", job, "--json", code=bug)
    assert done.returncode == 1
    assert leaks(tmp_path / "out", done) == []
    printed = done.stderr.decode()
    assert "in answer" in printed
    assert printed.count("KeyError") == 1
    assert "ValueError" in printed
    assert "this is a bug in batchgen" in printed


SLOW = """
import time
import batchgen.engines.echo as echo
quick = echo.EchoEngine._answer
def answer(self, request):
    time.sleep(0.02)
    return quick(self, request)
echo.EchoEngine._answer = answer
"""


def kill_after_the_first_part(
    job: Path, number: signal.Signals
) -> subprocess.CompletedProcess[bytes]:
    process = subprocess.Popen(
        command("run", job, code=SLOW), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    parts = job.parent / "out" / ".batchgen" / "parts"
    deadline = time.monotonic() + 60
    while not list(parts.glob("*.bgpart")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == -number, err.decode()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_leak_from_a_stopped_run_and_its_leftovers(
    number: signal.Signals, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job([{"q": f"{CANARY} {i}"} for i in range(99)], batching={"part_rows": 4})
    stopped = kill_after_the_first_part(job, number)
    looked = batchgen("status", tmp_path / "out", "--json")
    assert leaks(tmp_path / "out", stopped, looked) == []
    finished = batchgen("run", job, "--json")
    assert finished.returncode == 0
    assert leaks(tmp_path / "out", finished, batchgen("run", job)) == []


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_prompts_that_are_not_stored_are_in_no_file(
    number: signal.Signals, make_job: MakeJob, tmp_path: Path
) -> None:
    """The answers have one token here, so that they do not repeat the prompt."""
    job = make_job(
        [{"q": f"{CANARY} {i}"} for i in range(99)],
        prompt={"system": "{{ q }}", "prefill": "{{ q }}"},
        decoding={"max_new_tokens": 1},
        batching={"part_rows": 4},
        output={"store_prompt": False, "keep_columns": "none", "compression": "none"},
    )

    def holding() -> list[Path]:
        files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
        return [p for p in files if CANARY.encode() in p.read_bytes()]

    kill_after_the_first_part(job, number)
    assert holding() == []
    assert batchgen("run", job).returncode == 0
    assert holding() == []


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_redacted_text_is_in_no_file(
    number: signal.Signals, make_job: MakeJob, tmp_path: Path
) -> None:
    mail, phone = "ann@example.com", "13800138000"
    job = make_job(
        [{"q": f"{mail} {phone} {i}", "tags": [mail]} for i in range(99)],
        batching={"part_rows": 4},
        redact={},
        output={"compression": "none"},
    )
    stopped = kill_after_the_first_part(job, number)
    finished = batchgen("run", job, "--json")
    assert finished.returncode == 0
    for secret in (mail, phone):
        assert leaks(tmp_path / "out", stopped, finished, text=secret) == []
        files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
        assert [p for p in files if secret.encode() in p.read_bytes()] == []


def test_the_error_of_mixed_answers_names_only_files_and_settings(
    make_job: MakeJob, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert call(["run", str(make_job([{"q": "a"}]))]) == 0
    assert call(["run", str(make_job([{"q": CANARY}]))]) == 6
    assert leaks(tmp_path / "out", capfdbinary) == []


def test_answers_are_printed_only_on_a_terminal(make_job: MakeJob) -> None:
    job = make_job([{"q": CANARY}, {"q": "second"}, {"q": "third"}])
    ours, its = pty.openpty()
    process = subprocess.Popen(command("run", job), stdout=its, stderr=subprocess.DEVNULL)
    os.close(its)
    printed = b""
    try:
        while chunk := os.read(ours, 4096):
            printed += chunk
    except OSError:  # Linux's error when the writer has closed the terminal
        pass
    os.close(ours)
    assert process.wait(60) == 0
    assert printed.count(b"answer:") == 2
    assert CANARY.encode() in printed
    assert b"third" not in printed
    assert CANARY.encode() not in batchgen("run", job).stdout
