"""Paths in a job: made absolute, relative to the file that contains them; and the check of the output folder."""

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from batchgen.errors import AddressError, Problem
from batchgen.job.spec import Job
from batchgen.jobfile.tree import (
    InvalidValueError,
    KeyPath,
    Node,
    dotted_key,
    find_node,
    problem_at,
    replace_node,
)
from batchgen.storage.remote.object_url import is_object_url, parse_object_url

_FILES: tuple[KeyPath, ...] = (
    ("input", "path"),
    ("prompt", "file"),
    ("prompt", "chat_template"),
    ("decoding", "response_format", "json_schema"),
    ("output", "path"),
    ("output", "upload"),
)
_MODELS: tuple[KeyPath, ...] = (
    ("model", "path"),
    ("model", "tokenizer"),
    ("model", "adapter"),
)
_IN_LISTS: tuple[tuple[KeyPath, KeyPath], ...] = (
    (("evaluate", "gates"), ("baseline",)),
    (("evaluate", "gates"), ("agreement_run",)),
    (("evaluate", "metrics"), ("schema",)),
    (("evaluate", "metrics"), ("file",)),
    (("evaluate", "judges"), ("rubric_file",)),
    (("evaluate", "judges"), ("baseline",)),
    *((("evaluate", "judges"), keys) for keys in _MODELS),
)
"""Paths in the items of lists: where the list is, and the keys in an item."""
_UPLOAD = ("output", "upload")
_REMOTE: tuple[KeyPath, ...] = (("input", "path"), _UPLOAD)
"""Keys that may be the address of objects."""
_WORDS: Mapping[str | int, tuple[str, ...]] = {
    "chat_template": ("auto", "none"),
    "baseline": ("previous",),
    "agreement_run": ("previous",),
}
"""Words that are not paths."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WILD = re.compile(r"[*?\[]")


def absolute_paths(tree: Node, folders: Mapping[str, Path], problems: list[Problem]) -> Node:
    """The job with absolute paths. `folders` holds the folder of each file of the job, by its name in messages."""
    for keys in (*_FILES, *_MODELS):
        node = find_node(tree, keys)
        if node is None:
            continue
        if isinstance(node.value, tuple):
            items = tuple(_absolute(item, keys, folders, problems) for item in node.value)
            node = Node(items, node.location, node.origin, node.raw)
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
    try:
        Path(job.output.path).stat()
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return f"cannot be used: {error.strerror}"
    output, real = real_path(Path(job.output.path)), real_path(file)
    # A run may be started again from the copy of the job in its folder.
    is_copy = real == output / "job.yaml" and _exists(output / ".batchgen")
    if real.is_relative_to(output) and not is_copy:
        return f"the output folder {output} contains the job file"
    paths = (job.input.path,) if isinstance(job.input.path, str) else job.input.path
    for text in paths:
        if is_object_url(text):
            continue
        if relation := _relation(Path(text), output):
            return f"the output folder {output} {relation} {text}"
    return ""


def _absolute(
    node: Node, keys: KeyPath, folders: Mapping[str, Path], problems: list[Problem]
) -> Node:
    text = node.value
    folder = folders[node.location.file]
    if not isinstance(text, str) or not _is_path(text, keys, folder):
        return node
    try:
        if keys in _REMOTE and is_object_url(text):
            return replace(node, value=_address(text, keys))
        return replace(node, value=_as_text(_joined(folder, _followed(text, keys))))
    except AddressError as error:
        problems.append(problem_at(node, dotted_key(keys), error.message, error.hint))
        return node
    except InvalidValueError as error:
        problems.append(problem_at(node, dotted_key(keys), error.message, error.hint))
        return node


def _address(text: str, keys: KeyPath) -> str:
    if keys == _UPLOAD and _WILD.search(text):
        raise InvalidValueError("a glob; expected one address", "Write s3://BUCKET/PREFIX.")
    return str(parse_object_url(text))


def _is_path(text: str, keys: KeyPath, folder: Path) -> bool:
    """Whether the text is a path, not a word such as "none" and not the id of a model."""
    if not text or text in _WORDS.get(keys[-1], ()):
        return False
    if keys[-2:] not in _MODELS:
        return True
    if text.startswith(("./", "../", "/", "~")) or text in (".", ".."):
        return True

    if text.lower().endswith(".gguf"):
        return os.path.isfile(folder / text)  # noqa: PTH113
    return os.path.isdir(folder / text)  # noqa: PTH112


def _followed(text: str, keys: KeyPath) -> Path:
    if keys[0] == "prompt" and "${" in text:
        hint = "Write the full path: ${...} is replaced in all sections except prompt."
        raise InvalidValueError("${...} is not replaced under prompt", hint)
    if keys == _UPLOAD:
        hint = "Write s3://BUCKET/PREFIX, gs:// or az://."
        raise InvalidValueError("expected an address in object storage", hint)
    if _ADDRESS.match(text):
        hint = "Copy the files to this machine first."
        if keys == ("output", "path"):
            hint = "Give a folder of this machine. output.upload copies the published run to an address."
        if keys in _REMOTE:
            hint = "Copy the files to this machine first, or give an address: s3://BUCKET/KEY, gs:// or az://."
        raise InvalidValueError("a URL; expected a path on this machine", hint)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InvalidValueError("unknown user", "Write the full path.") from error


def _as_text(path: Path) -> str:
    text = str(path)
    if any("\udc80" <= character <= "\udcff" for character in text):
        shown = os.fsencode(text).decode("utf-8", "backslashreplace")
        message = f"the name of a folder is not UTF-8: {shown}"
        raise InvalidValueError(message, "Rename the folder, or move the job to another one.")
    return text


def _joined(folder: Path, path: Path) -> Path:
    """Absolute, and without `..`, which is resolved through links as the system would."""
    parts = (folder / path).parts
    if ".." not in parts:
        return Path(*parts)
    last = len(parts) - parts[::-1].index("..")
    return real_path(Path(*parts[:last])).joinpath(*parts[last:])


def _relation(pattern: Path, output: Path) -> str:
    parts = pattern.parts
    wild = next((i for i, part in enumerate(parts) if _WILD.search(part)), len(parts))
    if wild < len(parts) and not _exists(pattern):  # `run` checks the files that a glob finds
        root = real_path(Path(*parts[:wild]))
        return "contains the input" if root.is_relative_to(output) else ""
    source = real_path(pattern)
    if source == output:
        return "is the input"
    if source.is_relative_to(output):
        return "contains the input"
    return "is inside the input" if output.is_relative_to(source) else ""


def real_path(path: Path) -> Path:
    """The path without links; a circle of links is left as it is."""
    return Path(os.path.realpath(path))


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - raises nothing, such as for a name that is too long
