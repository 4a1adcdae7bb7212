"""From the errors of pydantic to problems with a location in the file, in the terms of the job."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from pydantic import ValidationError

from batchgen.errors import Problem
from batchgen.jobfile.messages.expected_types import expected_at
from batchgen.jobfile.messages.hints import unknown_key_hint, wrong_value_hint
from batchgen.jobfile.renamed_keys import explain_renamed_key, explain_renamed_type
from batchgen.jobfile.tree import (
    COMMAND_LINE,
    MATRIX_OPTION,
    PROFILE,
    KeyPath,
    Node,
    child,
    dotted_key,
    find_node,
    nearest_node,
    parse_key,
    problem_at,
    scalar_text,
    shorten,
    to_python,
)

_REQUIRED: Mapping[str, str] = {
    "version": "Write version: 1.",
    "name": "Write name: my-job.",
    "input": "Write input: {path: data/*.csv}.",
    "input.path": "Write a file, a folder, a glob or a list of them.",
    "model": "Write model: demo:smollm2-135m, a folder or a model id.",
    "output": "Write output: {path: out/my-job}.",
    "output.path": "Write the folder of the run.",
}
_ADVICE = re.compile("(.+); ((?:give|leave|put|remove|rename|set|use) .+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SchemaError:
    """One violation of the schema. `is_section`: it is about a section, not about one value."""

    path: KeyPath
    message: str
    hint: str
    is_section: bool = False


def explain(error: ValidationError, tree: Node) -> list[SchemaError]:
    """Every error, one for each path. The errors of a union become one that names all alternatives."""
    errors: dict[KeyPath, SchemaError] = {}
    for one in error.errors(include_url=False, include_context=False):
        kind = one["type"]
        path = _path(one["loc"], tree, kind)
        if kind == "extra_forbidden":
            typed, node = _with_types(path, tree), find_node(tree, path)
            renamed = explain_renamed_key(path, typed, to_python(node) if node else None)
            message, hint = renamed or ("unknown key", unknown_key_hint(typed))
            errors[path] = SchemaError(path, message, hint)
        elif kind.startswith("union_tag"):
            errors[path] = _of_type(path, tree)
        elif kind == "missing":
            errors[path] = SchemaError(path, "is required", _REQUIRED.get(dotted_key(path), ""))
        elif kind == "value_error":
            errors[path] = _of_validator(path, one["msg"].removeprefix("Value error, "), tree)
        elif path not in errors:
            errors[path] = _of_value(path, tree, kind)
    outer = {path[:-1] for path in errors if path and isinstance(path[-1], int)}
    return [found for path, found in errors.items() if path not in outer]


def problem_at_path(tree: Node, path: KeyPath, message: str, hint: str = "") -> Problem:
    """A problem with its location: that of the key, or of the enclosing section if the key is missing."""
    node = nearest_node(tree, path)
    key = dotted_key(path)
    if node.origin in (COMMAND_LINE, MATRIX_OPTION):
        message += f" (given by {node.origin})"
    if node.origin.startswith(PROFILE):
        key = f"profiles.{node.origin.removeprefix(PROFILE)}.{key}"
    return problem_at(node, key, message, hint)


def add_locations(
    tree: Node, problems: Sequence[Problem], texts: Mapping[str, str]
) -> list[Problem]:
    """Add locations to problems that have only a key; `texts`: of the files, by name."""
    return [p if p.line else _with_location(tree, p, texts) for p in problems]


def _with_location(tree: Node, problem: Problem, texts: Mapping[str, str]) -> Problem:
    path = _in_lists(problem.key)
    found = problem_at_path(tree, path, problem.message, problem.hint)
    node = find_node(tree, path)
    if not (problem.value_line and found.line) or node is None or not isinstance(node.value, str):
        return found
    # The lines of a text in a block follow that of its key. Other texts have no lines of their own in the file.
    inner, line = node.value.splitlines(), found.line + problem.value_line
    lines = texts.get(node.location.file, "").splitlines()
    if problem.value_line > len(inner) or line > len(lines):
        return found
    content = inner[problem.value_line - 1]
    indent = lines[line - 1].removesuffix(content)
    if not content or indent.strip():
        return found
    return replace(found, line=line, column=len(indent) + problem.value_column)


def _in_lists(key: str) -> KeyPath:
    """The path of a key in which numbers are positions in lists, such as `prompt.messages.0.content`."""
    steps = parse_key(key)
    return tuple(int(s) if isinstance(s, str) and s.isdigit() else s for s in steps)


def _path(loc: Sequence[int | str], tree: Node, kind: str) -> KeyPath:
    """The path in the file, without pydantic's names for the members of a union."""
    path: KeyPath = ()
    node = tree
    for position, step in enumerate(loc):
        inner = child(node, step)
        if inner is not None:
            path, node = (*path, step), inner
        elif position == len(loc) - 1 and kind in ("missing", "extra_forbidden"):
            path = (*path, step)
    return path


def _with_types(path: KeyPath, tree: Node) -> KeyPath:
    """The path in the schema: with the type of an item where a list has several types."""
    full: KeyPath = ()
    for length, step in enumerate(path, 1):
        full = (*full, step)
        expected = expected_at(full)
        item = find_node(tree, path[:length])
        if expected is None or item is None or not expected.tagged:
            continue
        word = child(item, "type") or item
        if isinstance(word.value, str) and word.value in expected.tagged:
            full = (*full, word.value)
    return full


def _of_type(path: KeyPath, tree: Node) -> SchemaError:
    """An item whose type is missing or unknown."""
    item, expected = find_node(tree, path), expected_at(path)
    known = list(expected.tagged) if expected is not None else []
    word = child(item, "type") if item is not None else None
    path = (*path, "type") if word is not None else path
    word = word or item
    if word is None or isinstance(word.value, Mapping):
        return SchemaError((*path, "type"), "is required", f"Use one of {', '.join(known)}.")
    if renamed := explain_renamed_type(word.value):
        return SchemaError(path, *renamed)
    if comma := next((c for c in "，、" if c in str(word.value)), ""):
        hint = f"Write the comma as , instead of {comma}."
        return SchemaError(path, f"expected a type; found {_found(word)}", hint)
    near = get_close_matches(str(word.value), known, 1)
    hint = f"Did you mean {near[0]}?" if near else f"Use one of {', '.join(known)}."
    return SchemaError(path, f"expected a type; found {_found(word)}", hint)


def _of_value(path: KeyPath, tree: Node, kind: str) -> SchemaError:
    node = find_node(tree, path)
    expected = expected_at(_with_types(path, tree))
    if node is None or expected is None:
        return SchemaError(path, "invalid value", "")
    hint = wrong_value_hint(expected, node.value, in_list=isinstance(path[-1], int))
    if kind == "string_pattern_mismatch":
        return SchemaError(path, f"invalid value: {_found(node)}", expected.description)
    return SchemaError(path, f"expected {expected}; found {_found(node)}", hint)


def _of_validator(path: KeyPath, message: str, tree: Node) -> SchemaError:
    """A message of our own validators: it starts with the key that it is about, and may end with advice."""
    expected = expected_at(path)
    is_section = expected is not None and expected.section is not None
    word = message.split(" ", 1)[0]
    named = parse_key(word.rstrip(":"))
    if named and find_node(tree, (*path, *named)) is not None:
        path = (*path, *named)
    elif named and expected_at(named) is not None:
        path = named
    else:
        word = ""
    message = message.removeprefix(f"{word} ") if word.endswith(":") else message
    advised = _ADVICE.fullmatch(message)
    message, advice = advised.groups() if advised else (message, "")
    hint = f"{advice[0].upper()}{advice[1:]}." if advice else ""
    return SchemaError(path, message, hint, is_section)


def _found(node: Node) -> str:
    value = node.value
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    shown = _found_text(value, node.raw) if isinstance(value, str) else scalar_text(value)
    return f"{shown} (from {node.raw[:60]})" if node.raw else shown


def _found_text(text: str, raw: str) -> str:
    if "${env:" in raw:
        return "another text"  # it may be a secret
    return f"the text {shorten(text, 40)!r}" if text else "an empty text"
