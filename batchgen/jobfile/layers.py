"""The files of a job: the job file and the base files that it extends, read into layers."""

import datetime as dt
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from batchgen.errors import JobFileError, Problem
from batchgen.jobfile.interpolate import Placeholders
from batchgen.jobfile.job_paths import real_path
from batchgen.jobfile.merge import canonicalize, merge_layers
from batchgen.jobfile.tree import Node, children, find_node, problem_at
from batchgen.jobfile.yaml_reader import read_yaml
from batchgen.storage.obstacles import kind_of_entry

MAX_BYTES = 2**20
MAX_PROBLEMS = 100
"""Further problems are only counted."""

NEWEST_VERSION = 1
MINIMAL_JOB = """\
version: 1
name: my-job
input: {path: data/questions.csv}
prompt: {user: "Answer in one sentence: {{ question }}"}
model: demo:smollm2-135m
output: {path: out/my-job}
"""


@dataclass(slots=True)
class Layers:
    """Texts and folders of the files read so far, by the names used in messages; and the problems."""

    environment: Mapping[str, str]
    date: dt.date
    texts: dict[str, str] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def error(self, problems: Sequence[Problem]) -> JobFileError:
        """The error for these problems, each with its line."""
        return job_file_error(problems, self.texts)


def job_file_error(problems: Sequence[Problem], texts: Mapping[str, str]) -> JobFileError:
    """The error for these problems. `texts` has the job file first, then its base files."""
    file = next(iter(texts), "")
    shown = list(dict.fromkeys(problems))
    if (more := len(shown) - MAX_PROBLEMS) > 0:
        shown = [*shown[:MAX_PROBLEMS], Problem("", f"and {more} more problems", file=file)]
    return JobFileError(shown, file=file, text=texts.get(file, ""), texts=texts)


def read_layers(file: Path, layers: Layers, text: str | None = None) -> Node:
    """The job merged over its base files. Problems are added to `layers`.

    `text` is that of the job if it is not in `file`, which then only names it and the folder of its paths.

    Raises:
        JobFileError: a file is missing, is not a mapping, or has a newer version.
    """
    return _read(file, "job", (), layers, text=text)


def _read(
    file: Path, origin: str, chain: tuple[Path, ...], layers: Layers, *, text: str | None = None
) -> Node:
    name = str(file)
    text = _text(file) if text is None else text
    layers.texts[name] = text
    layers.folders[name] = file.parent.resolve()
    reading = read_yaml(text, file=name, origin=origin)
    layers.problems += reading.problems
    top = reading.top
    if top is None or not isinstance(top.value, Mapping):
        raise layers.error(layers.problems or [_no_mapping(top, name)])
    _refuse_newer(top, layers)
    top = canonicalize(top, layers.problems)
    here = _File(file, origin, (*chain, real_path(file)))
    merged: Node | None = None
    for base in _bases(top, here, layers):
        merged = merge_layers(merged, base) if merged is not None else base
    return merge_layers(merged, top) if merged is not None else top


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the job, its origin label, and the chain of files that extend it, itself last."""

    path: Path
    origin: str
    chain: tuple[Path, ...]


def _bases(top: Node, here: _File, layers: Layers) -> Iterator[Node]:
    """The base files of a file, lowest first."""
    extends = children(top).get("extends")
    if extends is None or extends.value is None:
        return
    outer = Path(here.origin).parent if len(here.chain) > 1 else Path()
    for node in extends.value if isinstance(extends.value, tuple) else (extends,):
        placeholders = Placeholders(layers.environment, layers.date, layers.folders)
        filled = placeholders.fill(node, ("extends",)).value
        if placeholders.problems:
            raise layers.error([*layers.problems, *placeholders.problems])
        if not isinstance(filled, str) or not filled:
            hint = "Write extends: base.yaml, or a list of files."
            raise _refused(layers, node, "expected the name of a file, or a list of them", hint)
        path = here.path.parent / filled
        if filled.startswith("~"):
            with suppress(RuntimeError):  # ~name of an unknown user
                path = Path(filled).expanduser()
        if real_path(path) in here.chain:
            chain = " -> ".join(p.name for p in (*here.chain, path))
            hint = "Remove one of the extends."
            raise _refused(layers, node, f"the files extend each other in a circle: {chain}", hint)
        if not os.path.isfile(path):  # noqa: PTH113 - raises nothing, such as for a name that is too long
            general = "Check the path: it is relative to the file that contains it."
            hint = _similar_file_hint(path) or general
            raise _refused(layers, node, f"no such file: {path}", hint)
        yield _read(path, str(outer / str(filled)), here.chain, layers)


def _refused(layers: Layers, node: Node, message: str, hint: str = "") -> JobFileError:
    return layers.error([*layers.problems, problem_at(node, "extends", message, hint)])


def _text(file: Path) -> str:
    try:
        if stream_kind := _stream_kind(file):
            message = f"is {stream_kind}; expected a file, which can be read again and whose folder is known"
            hint = "Save the job as a file. Change single keys with --set KEY=VALUE."
            raise JobFileError([Problem("", message, hint)], file=str(file))
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error
    name = str(file)
    if len(data) > MAX_BYTES:
        message = f"larger than {MAX_BYTES:,} bytes"
        hint = "Give a job file, not a data file. Put long prompts into a file: prompt.file."
        raise JobFileError([Problem("", message, hint)], file=name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 text: byte 0x{data[error.start]:02x} at offset {error.start}"
        problem = Problem("", message, "Save the file as UTF-8.", line, 1)
        raise JobFileError([problem], file=name) from error


def _stream_kind(file: Path) -> str:
    """What a file is that cannot be a job, such as "a pipe"; empty for any other. OSError or ValueError if there is none."""
    mode = file.stat().st_mode
    if not stat.S_ISREG(mode):
        return "" if stat.S_ISDIR(mode) else kind_of_entry(mode)
    # /dev/stdin may be a file, but paths in it are relative to nothing.
    return "an open stream" if file.absolute().is_relative_to("/dev") else ""


def _unreadable(file: Path, error: Exception) -> JobFileError:
    if isinstance(error, FileNotFoundError):
        hint = _similar_file_hint(file) or "Give the path of a job file."
        return JobFileError([Problem("", "no such file", hint)], file=str(file))
    if isinstance(error, IsADirectoryError):
        hint = "Give the job file in it."
        return JobFileError([Problem("", "is a folder; expected a file", hint)], file=str(file))
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return JobFileError([Problem("", f"cannot be read: {reason}")], file=str(file))


def _similar_file_hint(path: Path) -> str:
    """A hint that names a similar job file, if one exists."""
    try:
        found = {p.stem: p for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml")}
    except OSError:
        found = {}
    near = get_close_matches(path.stem, found, 1)
    return f"Did you mean {found[near[0]]}?" if near else ""


def _no_mapping(top: Node | None, name: str) -> Problem:
    if top is None or top.value is None:
        minimal = MINIMAL_JOB.replace("\n", "\n         ").rstrip()
        return Problem("", "is empty", f"A minimal job is:\n         {minimal}", 1, 1, name)
    found = "a list" if isinstance(top.value, tuple) else "a single value"
    hint = "Start with version: 1 and name: my-job."
    return problem_at(top, "", f"expected a mapping at the top, found {found}", hint)


def _refuse_newer(top: Node, layers: Layers) -> None:
    version = find_node(top, ("version",))
    if version is None or isinstance(version.value, bool) or not isinstance(version.value, int):
        return
    if version.value > NEWEST_VERSION:
        newest = f"this batchgen reads up to {NEWEST_VERSION}"
        message = f"version {version.value} of the job format; {newest}"
        hint = "Update batchgen: pip install -U batchgen-llm."
        raise layers.error([problem_at(version, "version", message, hint)])
