"""Whatever happens to stdout and stderr, a command ends with its own exit code and its files are complete."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl
import pytest
import yaml

from tests.conftest import MakeJob

COMMAND = [sys.executable, "-m", "batchgen"]
FULL = Path("/dev/full")
ROWS = [
    {"id": str(n), "q": q, "gold": "no echo"}
    for n, q in enumerate(["你好吗？", "naïve – “quoted”", "🙂", ""])
]


@dataclass(frozen=True)
class Done:
    code: int
    out: bytes
    err: bytes


def redirected(redirection: str, command: Sequence[str]) -> list[str]:
    return ["bash", "-c", f'exec "$@" {redirection}', "bash", *command]


def execute(command: Sequence[str], harm: str) -> Done:
    """Run the command with one harm done to its streams."""
    environment = dict(os.environ)
    out: int | IO[bytes] = subprocess.PIPE
    err: int | IO[bytes] = subprocess.PIPE
    with ExitStack() as opened:
        if harm.startswith("encoding "):
            environment["PYTHONIOENCODING"] = harm.removeprefix("encoding ")
        elif harm.startswith("closed "):
            command = redirected(harm.removeprefix("closed "), command)
        else:
            broken = opened.enter_context(BROKEN[harm.split()[0]]())
            out = broken if "stdout" in harm else out
            err = broken if "stderr" in harm else err
        process = opened.enter_context(
            subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        )
        printed, messages = process.communicate(timeout=120)
    return Done(process.returncode, printed or b"", messages or b"")


@contextmanager
def no_reader() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextmanager
def terminal_gone() -> Iterator[int]:
    master, terminal = pty.openpty()
    os.close(master)
    yield terminal
    os.close(terminal)


@contextmanager
def full_disk() -> Iterator[int]:
    with FULL.open("wb") as file:
        yield file.fileno()


BROKEN = {"unread": no_reader, "hung-up": terminal_gone, "full": full_disk}
HARMS = [
    *(f"{kind} {names}" for kind in BROKEN for names in ("stdout", "stderr", "stdout+stderr")),
    *(f"closed {text}" for text in (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-")),
    *(f"encoding {name}" for name in ("gbk", "big5", "latin-1", "ascii", "cp1252", "utf-8:strict")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with jobs and finished runs: `ok`, `gate` whose gate fails, `failed` with too many failed rows."""
    base = tmp_path_factory.mktemp("streams")
    (base / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    gate = {"reference": "gold", "metrics": ["exact"], "gates": [{"metric": "exact", "min": 0.9}]}
    jobs: Mapping[str, dict[str, object]] = {
        "ok": {"run": {"max_error_rate": 1}},
        "gate": {"run": {"max_error_rate": 1}, "evaluate": gate},
        "failed": {},
    }
    for name, sections in jobs.items():
        job = {
            "version": 1,
            "name": "streams",
            "input": {"path": "rows.jsonl", "columns": {"id": "id"}},
            "prompt": {"user": "{{ q }}"},
            "model": {"engine": "echo"},
            "output": {"path": f"out/{name}"},
            **sections,
        }
        path = base / f"{name}.yaml"
        path.write_text(yaml.safe_dump(job, allow_unicode=True), "utf-8")
        done = subprocess.run([*COMMAND, "run", path], check=False, capture_output=True)
        assert done.returncode == {"ok": 0, "gate": 4, "failed": 3}[name], done.stderr
    return base


PRINTS = {
    "--help": 0,
    "metrics": 0,
    "metrics --json": 0,
    "schema": 0,
    "models list": 0,
    "validate ok.yaml --show": 0,
    "validate none.yaml --json": 2,
    "plan ok.yaml": 0,
    "status out/ok": 0,
    "show out/ok": 0,
    "show out/ok --json": 0,
    "verify out/ok": 0,
    "compare out/gate out/gate --fail-if-worse exact:0": 4,
    "nonsense": 2,
}
SAVES = {
    "run ok.yaml": 0,
    "run ok.yaml --json": 0,
    "run gate.yaml": 4,
    "run failed.yaml --fresh": 3,
    "score out/gate": 4,
    "purge out/failed": 0,
}
OFTEN = ["run gate.yaml"]
SELDOM = [
    *("unread stdout", "unread stdout+stderr", "hung-up stderr", "full stdout", "closed >&-"),
    *("closed <&- >&- 2>&-", "encoding gbk", "encoding ascii"),
]


def check(folder: Path, command: str, harm: str) -> None:
    arguments = [str(folder / w) if (folder / w).exists() else w for w in command.split()]
    own = (PRINTS | SAVES)[command]
    lost = command in PRINTS and own == 0 and harm.startswith("full stdout")
    done = execute([*COMMAND, *arguments], harm)
    assert done.code == (5 if lost else own), done.err.decode("utf-8", "replace")
    for text in (done.out, done.err):
        assert b"Traceback" not in text
        assert b"a bug" not in text
        assert b"Exception ignored" not in text
    if harm.startswith("encoding "):
        encoding = harm.removeprefix("encoding ").split(":")[0]
        printed = done.out.decode(encoding)
        done.err.decode(encoding)
        if "--json" in command:
            json.loads(printed.splitlines()[-1])
    if lost and harm == "full stdout":
        assert b"stdout: cannot write: No space left on device" in done.err


PLAIN = {"unread stdout", "hung-up stderr", "full stdout", "closed <&- >&- 2>&-"}
EVERY_HARM = [h if h in PLAIN else pytest.param(h, marks=pytest.mark.soak) for h in HARMS]

needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs a file that is always full")


@needs_full
@pytest.mark.slow
@pytest.mark.parametrize("harm", EVERY_HARM)
@pytest.mark.parametrize("command", OFTEN)
def test_a_command_ends_with_its_own_exit_code(folder: Path, command: str, harm: str) -> None:
    check(folder, command, harm)


@needs_full
@pytest.mark.soak
@pytest.mark.parametrize("harm", SELDOM)
@pytest.mark.parametrize("command", sorted({*PRINTS, *SAVES} - set(OFTEN)))
def test_every_command_ends_with_its_own_exit_code(folder: Path, command: str, harm: str) -> None:
    check(folder, command, harm)


@needs_full
@pytest.mark.slow
@pytest.mark.parametrize("harm", ["unread stdout+stderr", "closed <&- >&- 2>&-", "full stderr"])
def test_the_files_of_a_run_are_complete(folder: Path, tmp_path: Path, harm: str) -> None:
    output = tmp_path / "out"
    run = [*COMMAND, "run", str(folder / "ok.yaml"), "-o", str(output)]
    assert execute(run, harm).code == 0
    assert pl.read_parquet(output / "responses.parquet")["id"].to_list() == ["0", "1", "2", "3"]
    assert subprocess.run([*COMMAND, "verify", output], check=False).returncode == 0


@pytest.mark.slow
def test_a_reader_that_takes_one_line_sees_it() -> None:
    pipe = f"{sys.executable} -m batchgen metrics | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipe], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.slow
def test_a_terminal_that_closes_while_the_bar_is_drawn_does_not_end_the_run(
    folder: Path, tmp_path: Path
) -> None:
    rows = "".join(json.dumps({"id": str(n), "q": "x" * 50}) + "\n" for n in range(20_000))
    (tmp_path / "rows.jsonl").write_text(rows, "utf-8")
    output = tmp_path / "out"
    sets = ["-s", f"input.path={tmp_path / 'rows.jsonl'}"]
    run = [*COMMAND, "run", str(folder / "ok.yaml"), "-o", str(output), *sets]
    master, terminal = pty.openpty()
    with subprocess.Popen(run, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        while b"tok/s" not in shown:  # the thread has drawn the bar
            shown += os.read(master, 4096)
        os.close(master)
        assert process.wait(timeout=120) == 0
    assert pl.read_parquet(output / "responses.parquet").height == 20_000


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["unread", "hung-up"])
def test_a_signal_stops_a_run_although_nobody_reads_its_messages(
    folder: Path, tmp_path: Path, harm: str
) -> None:
    rows = "".join(json.dumps({"id": str(n), "q": "x" * 50}) + "\n" for n in range(20_000))
    (tmp_path / "rows.jsonl").write_text(rows, "utf-8")
    output = tmp_path / "out"
    sets = [f"input.path={tmp_path / 'rows.jsonl'}", "batching.part_rows=100"]
    run = [*COMMAND, "run", str(folder / "ok.yaml"), "-o", str(output), *[f"-s{s}" for s in sets]]
    with (
        BROKEN[harm]() as broken,
        subprocess.Popen(run, stdout=broken, stderr=broken) as process,
    ):
        parts = output / ".batchgen" / "parts"
        while not (parts.exists() and list(parts.glob("*.json"))):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM
    assert subprocess.run([*run, "-q"], check=False).returncode == 0
    assert pl.read_parquet(output / "responses.parquet").height == 20_000


def test_a_terminal_shows_answers_and_hints_without_broken_words(make_job: MakeJob) -> None:
    columns, words = 50, "generation of several sentences without an end " * 3
    job = make_job([{"q": words}], decoding={"max_new_tokens": 12})
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, columns))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [*COMMAND, "run", str(job)]
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # the process has ended
            while read := os.read(master, 4096):
                shown += read
    os.close(master)
    lines = [line for line in shown.decode().replace("\r", "\n").splitlines() if line]
    starts = ("hint ", "wrote ", "user:", "answer:")
    hint, wrote, user, answer = (
        next(n for n, line in enumerate(lines) if line.startswith(start)) for start in starts
    )
    assert max(map(len, lines[hint:wrote] + lines[user:answer])) <= columns
    assert words.strip() in " ".join(" ".join(lines[user:answer]).split())
    assert process.returncode == 0
