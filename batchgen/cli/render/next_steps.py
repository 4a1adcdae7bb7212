"""What `batchgen` without a command prints: the commands that fit the files of the working folder."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from batchgen.cli.render.terminal import printable

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".xlsx")
_HEAD_BYTES = 65_536


def next_steps(folder: Path) -> Iterator[str]:
    """The lines to print; files are only looked at."""
    jobs = [path for path in _files(folder, (".yaml", ".yml")) if _is_job(path)]
    tables = _files(folder, _TABLES)
    if jobs:
        name = _quoted(min(jobs, key=lambda path: (path.stem != "job", path.name)))
        steps = {
            f"batchgen try {name}": "answer three rows on the screen",
            f"batchgen run {name}": "answer all rows; run it again to resume",
        }
    elif tables:
        steps = {f"batchgen init {_quoted(tables[0])}": "write a job for this table"}
    else:
        steps = {
            "batchgen init": "write a small table and a job for it",
            "batchgen init DATA": "write a job for a table of yours",
        }
    steps |= {"batchgen doctor": "check this machine", "batchgen --help": "list all commands"}
    width = max(map(len, steps))
    yield "batchgen generates text for each row of a table: offline, in batches, resumable"
    yield ""
    yield from (f"  {command:<{width}}  {text}" for command, text in steps.items())


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    except OSError:  # a folder that vanished or may not be read: the general commands are printed
        return []


def _is_job(path: Path) -> bool:
    """Whether a YAML file has the sections that a job must have."""
    try:
        with path.open("rb") as opened:
            lines = opened.read(_HEAD_BYTES).splitlines()
    except OSError:
        return False
    return any(line.startswith(b"input:") for line in lines)


def _quoted(path: Path) -> str:
    return printable(shlex.quote(path.name))
