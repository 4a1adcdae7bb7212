"""The values of a job file, each with its place and where it came from.

A job is put together from layers (base files, the job, a profile, `--set`); a `Node` carries its line and its
layer through merging and `${...}`, so that every later message can point at what the user wrote.
Knows nothing of YAML syntax or of what a job may say.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from batchgen.errors import Problem

Scalar = None | bool | int | float | str
KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of the job, such as ("prompt", "messages", 0, "role")."""

COMMAND_LINE = "--set"
"""Origin of what the command line gave."""
PROFILE = "profile "
"""Start of the origin of what a profile gave; its name follows."""


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A position in a file. `file` is the name that messages show; line and column count from 1, 0 is no line."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A value.

    Attributes:
        value: a scalar, or more nodes.
        place: of its key in a mapping, of itself in a list.
        origin: "job", "profile NAME", "--set", or the base file's name.
        raw: the text before `${...}` was filled in; empty where nothing was.
    """

    value: "Scalar | tuple[Node, ...] | Mapping[str, Node]"
    place: SourceLocation
    origin: str
    raw: str = ""


def children(node: Node) -> Mapping[str, Node]:
    """The entries of a mapping; nothing for anything else."""
    return node.value if isinstance(node.value, Mapping) else {}


def to_python(node: Node) -> object:
    """The value as Python objects."""
    if isinstance(node.value, Mapping):
        return {key: to_python(child) for key, child in node.value.items()}
    if isinstance(node.value, tuple):
        return [to_python(child) for child in node.value]
    return node.value


def child(node: Node, step: str | int) -> Node | None:
    """The entry of a mapping or the item of a list."""
    if isinstance(node.value, Mapping):
        return node.value.get(step) if isinstance(step, str) else None
    if isinstance(node.value, tuple) and isinstance(step, int) and 0 <= step < len(node.value):
        return node.value[step]
    return None


def find_node(tree: Node, path: KeyPath) -> Node | None:
    """The node at a path."""
    node: Node | None = tree
    for step in path:
        node = child(node, step) if node is not None else None
    return node


def replace_node(tree: Node, path: KeyPath, new: Node) -> Node:
    """The same tree with another node at a path of keys, which must exist."""
    if not path:
        return new
    entries = dict(children(tree))
    key = str(path[0])
    entries[key] = replace_node(entries[key], path[1:], new)
    return Node(entries, tree.place, tree.origin, tree.raw)


def nearest_node(tree: Node, path: KeyPath) -> Node:
    """The node at a path, or the innermost one that encloses where it would be."""
    node = tree
    for step in path:
        inner = child(node, step)
        if inner is None:
            return node
        node = inner
    return node


def walk(node: Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
    """Every node that holds no further mapping, with its path; lists count as one value."""
    if isinstance(node.value, Mapping) and node.value:
        for key, inner in node.value.items():
            yield from walk(inner, (*path, key))
    else:
        yield path, node


def map_nodes(node: Node, change: Callable[[Node], Node]) -> Node:
    """The same tree with every node changed, the inner ones first."""
    value = node.value
    if isinstance(value, Mapping):
        value = {key: map_nodes(inner, change) for key, inner in value.items()}
    elif isinstance(value, tuple):
        value = tuple(map_nodes(inner, change) for inner in value)
    return change(replace(node, value=value))


def drop_nulls(node: Node) -> Node:
    """The same without keys that are null: null unsets. What lists hold is left alone."""
    if not isinstance(node.value, Mapping):
        return node
    kept = {k: drop_nulls(v) for k, v in node.value.items() if v.value is not None}
    return Node(kept, node.place, node.origin)


def problem_at(node: Node, key: str, message: str, hint: str = "") -> Problem:
    """A problem at the place of a node."""
    place = node.place
    return Problem(key, message, hint, place.line, place.column, place.file)


def dotted_key(path: KeyPath) -> str:
    """How messages write a path: `prompt.messages[0].role`. Long or odd keys are shortened and quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + _key(step)
    return text


def parse_key(key: str) -> KeyPath:
    """The path that a dotted key names."""
    steps = re.findall(r"\[\d+\]|[^.\[\]]+", key)
    return tuple(int(s[1:-1]) if s.startswith("[") else s for s in steps)


def _key(key: str) -> str:
    short = key if len(key) <= 60 else key[:59] + "…"
    return short if short.isprintable() and short else repr(short)
