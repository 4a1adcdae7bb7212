"""The values of a job file, each with its location and its origin.

A job is merged from layers (base files, the job, a profile, `--set`). A `Node` keeps its line and its layer through
merging and `${...}`, so that messages can point to the user's text.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from batchgen.errors import Problem

Scalar = None | bool | int | float | str
KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of the job, such as ("prompt", "messages", 0, "role")."""

COMMAND_LINE = "--set"
"""Origin of values from the command line."""
MATRIX = "matrix"
"""Origin of the values of a combination that the section `matrix` lists."""
MATRIX_OPTION = "--matrix"
"""Origin of those that the command line lists."""
ADDED_ORIGINS = (COMMAND_LINE, MATRIX, MATRIX_OPTION)
"""Origins of layers that are not files."""
PROFILE = "profile "
"""Start of the origin of values from a profile; its name follows."""


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A position in a file. `file` is the name used in messages; line and column count from 1; 0: unknown."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A value.

    Attributes:
        value: a scalar, or more nodes.
        location: of its key in a mapping, of itself in a list.
        origin: "job", "profile NAME", "--set", or the base file's name.
        raw: the text before `${...}` was replaced; empty if nothing was.
    """

    value: "Scalar | tuple[Node, ...] | Mapping[str, Node]"
    location: SourceLocation
    origin: str
    raw: str = ""


class InvalidValueError(Exception):
    """A value that cannot be used; the caller adds its position."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def children(node: Node) -> Mapping[str, Node]:
    """The entries of a mapping; empty for other values."""
    return node.value if isinstance(node.value, Mapping) else {}


def to_python(node: Node) -> object:
    """The value as Python objects."""
    if isinstance(node.value, Mapping):
        return {key: to_python(child) for key, child in node.value.items()}
    if isinstance(node.value, tuple):
        return [to_python(child) for child in node.value]
    return node.value


def as_node(value: object, location: SourceLocation, origin: str) -> Node:
    """Plain values as a tree, all of it with the same location."""
    if isinstance(value, Mapping):
        entries = {str(key): as_node(inner, location, origin) for key, inner in value.items()}
        return Node(entries, location, origin)
    if isinstance(value, list | tuple):
        return Node(tuple(as_node(inner, location, origin) for inner in value), location, origin)
    if value is None or isinstance(value, bool | int | float | str):
        return Node(value, location, origin)
    raise TypeError(f"{type(value).__name__} in a job")


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
    """The tree with another node at a path of keys, which must exist."""
    if not path:
        return new
    entries = dict(children(tree))
    key = str(path[0])
    entries[key] = replace_node(entries[key], path[1:], new)
    return Node(entries, tree.location, tree.origin, tree.raw)


def nearest_node(tree: Node, path: KeyPath) -> Node:
    """The node at a path, or the innermost existing one around it."""
    node = tree
    for step in path:
        inner = child(node, step)
        if inner is None:
            return node
        node = inner
    return node


def leaves(node: Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
    """Every leaf with its path; a list is one leaf."""
    if isinstance(node.value, Mapping) and node.value:
        for key, inner in node.value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, node


def map_nodes(node: Node, change: Callable[[Node], Node]) -> Node:
    """The tree with every node changed, inner ones first."""
    value = node.value
    if isinstance(value, Mapping):
        value = {key: map_nodes(inner, change) for key, inner in value.items()}
    elif isinstance(value, tuple):
        value = tuple(map_nodes(inner, change) for inner in value)
    return change(replace(node, value=value))


def drop_nulls(node: Node, path: KeyPath = ()) -> Node:
    """The tree without keys that are null. Items of lists are unchanged, and so is a JSON Schema: its null is a value."""
    if not isinstance(node.value, Mapping) or path == _JSON_SCHEMA:
        return node
    entries = node.value.items()
    kept = {k: drop_nulls(v, (*path, k)) for k, v in entries if v.value is not None}
    return Node(kept, node.location, node.origin)


_JSON_SCHEMA: KeyPath = ("decoding", "response_format", "json_schema")


def problem_at(node: Node, key: str, message: str, hint: str = "") -> Problem:
    """A problem at the location of a node."""
    location = node.location
    return Problem(key, message, hint, location.line, location.column, location.file)


def scalar_text(value: Scalar) -> str:
    """A value as YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return str(value)


def dotted_key(path: KeyPath) -> str:
    """A path as messages write it: `prompt.messages[0].role`. Long or unprintable keys are shortened or quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            short = shorten(step, 60)
            text += "." if text else ""
            text += short if short.isprintable() and short else repr(short)
    return text


def parse_key(key: str) -> KeyPath:
    """The path of a dotted key."""
    steps = re.findall(r"\[\d+\]|[^.\[\]]+", key)
    return tuple(int(s[1:-1]) if s.startswith("[") else s for s in steps)


def shorten(text: str, length: int) -> str:
    """A text of at most `length` characters, cut with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"
