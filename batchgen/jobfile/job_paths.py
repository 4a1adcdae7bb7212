"""Paths in a job: made absolute, relative to the file that contains them; and the check of the output folder."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from batchgen.errors import Problem
from batchgen.job.spec import Job
from batchgen.jobfile.tree import KeyPath as Keys
from batchgen.jobfile.tree import Node, dotted_key, find_node, problem_at, replace_node

_FILES: tuple[Keys, ...] = (
    ("input", "path"),
    ("prompt", "file"),
    ("prompt", "chat_template"),
    ("output", "path"),
)
_MODELS: tuple[Keys, ...] = (("model", "path"), ("model", "tokenizer"))
_IN_LISTS: tuple[tuple[Keys, Keys], ...] = (
    (("evaluate", "gates"), ("baseline",)),
    (("evaluate", "metrics"), ("schema",)),
    (("evaluate", "metrics"), ("file",)),
    (("evaluate", "judges"), ("rubric_file",)),
    (("evaluate", "judges"), ("baseline",)),
    *((("evaluate", "judges"), keys) for keys in _MODELS),
)
"""Paths in the items of lists: where the list is, and the keys in an item."""
_WORDS: Mapping[str | int, tuple[str, ...]] = {
    "chat_template": ("auto", "none"),
    "baseline": ("previous",),
}
"""Words that are not paths."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WILD = re.compile(r"[*?\[]")


class _NotAPathError(Exception):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def absolute_paths(tree: Node, folders: Mapping[str, Path], problems: list[Problem]) -> Node:
    """The job with absolute paths. `folders` holds the folder of each file of the job, by its name in places."""
    for keys in (*_FILES, *_MODELS):
        node = find_node(tree, keys)
        if node is None:
            continue
        if isinstance(node.value, tuple):
            items = tuple(_absolute(item, keys, folders, problems) for item in node.value)
            node = Node(items, node.place, node.origin, node.raw)
        tree = replace_node(tree, keys, _absolute(node, keys, folders, problems))
    for keys, inner in _IN_LISTS:
        listed = find_node(tree, keys)
        if listed is None or not isinstance(listed.value, tuple):
            continue
        absolute: list[Node] = []
        for number, item in enumerate(listed.value):
            node = find_node(item, inner)
            if node is not None:
                node = _absolute(node, (*keys, number, *inner), folders, problems)
            absolute.append(item if node is None else replace_node(item, inner, node))
        tree = replace_node(tree, keys, replace(listed, value=tuple(absolute)))
    return tree


def output_problem(job: Job, file: Path) -> str:
    """Why the output folder is not allowed; empty if it is.

    A run must not read its own answers, and `--fresh` must not move the input or the job file.
    """
    output = _real(Path(job.output.path))
    if _real(file).is_relative_to(output) and not _is_record_of_run(file, output):
        return f"the output folder {output} contains the job file"
    paths = (job.input.path,) if isinstance(job.input.path, str) else job.input.path
    for text in paths:
        if relation := _relation(Path(text), output):
            return f"the output folder {output} {relation} {text}"
    return ""


def _absolute(node: Node, keys: Keys, folders: Mapping[str, Path], problems: list[Problem]) -> Node:
    text = node.value
    folder = folders[node.place.file]
    if not isinstance(text, str) or not _is_path(text, keys, folder):
        return node
    try:
        return replace(node, value=str(_joined(folder, _followed(text, keys))))
    except _NotAPathError as error:
        problems.append(problem_at(node, dotted_key(keys), str(error), error.hint))
        return node


def _is_path(text: str, keys: Keys, folder: Path) -> bool:
    """Whether the text is a path, not a word such as "none" and not the id of a model."""
    if not text or text in _WORDS.get(keys[-1], ()):
        return False
    if keys[-2:] not in _MODELS:
        return True
    if text.startswith(("./", "../", "/", "~")) or text in (".", ".."):
        return True
    try:
        return (folder / text).is_dir()
    except OSError:  # such as a name that is too long for the file system
        return False


def _followed(text: str, keys: Keys) -> Path:
    if keys[0] == "prompt" and "${" in text:
        hint = "Write the full path: ${...} is replaced in all sections except prompt."
        raise _NotAPathError("${...} is not replaced under prompt", hint)
    if _ADDRESS.match(text):
        raise _NotAPathError(
            "a URL; expected a path on this machine", "Copy the files to this machine first."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise _NotAPathError("unknown user", "Write the full path.") from error


def _joined(folder: Path, path: Path) -> Path:
    """Absolute, and without `..`, which is resolved through links as the system would."""
    parts = (folder / path).parts
    if ".." not in parts:
        return Path(*parts)
    last = len(parts) - parts[::-1].index("..")
    return _real(Path(*parts[:last])).joinpath(*parts[last:])


def _relation(pattern: Path, output: Path) -> str:
    parts = pattern.parts
    wild = next((i for i, part in enumerate(parts) if _WILD.search(part)), len(parts))
    if wild < len(parts) and not _exists(
        pattern
    ):  # files that a glob finds in the folder: see `run`
        return "contains the input" if _real(Path(*parts[:wild])).is_relative_to(output) else ""
    source = _real(pattern)
    if source == output:
        return "is the input"
    if source.is_relative_to(output):
        return "contains the input"
    return "is inside the input" if output.is_relative_to(source) else ""


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a circle of links
        return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _is_record_of_run(file: Path, output: Path) -> bool:
    """Whether the job file is the copy that a run left in its own folder, from which it may be run again."""
    return _real(file) == output / "job.yaml" and _exists(output / ".batchgen")
