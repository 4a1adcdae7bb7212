"""Profiles: named layers in a job file, of which one may be chosen. All of them are checked."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial

from batchgen.errors import Problem
from batchgen.jobfile.check import check_job
from batchgen.jobfile.layers import Layers
from batchgen.jobfile.merge import merge_layers
from batchgen.jobfile.messages.explain import problem_at_path
from batchgen.jobfile.tree import (
    PROFILE,
    Node,
    SourceLocation,
    children,
    dotted_key,
    find_node,
    map_nodes,
    problem_at,
)


def profiles_of(merged: Node, problems: list[Problem]) -> dict[str, Node]:
    """The profiles of a job by name; the origin of their values is set."""
    section = children(merged).get("profiles")
    if section is None or section.value is None:
        return {}
    if not isinstance(section.value, Mapping):
        message = "expected a mapping of names to settings"
        hint = "Write, for example, smoke: {input: {limit: 8}}."
        problems.append(problem_at(section, "profiles", message, hint))
        return {}
    found: dict[str, Node] = {}
    for name, node in section.value.items():
        key = dotted_key(("profiles", name))
        if isinstance(node.value, Mapping):
            origin, usable = PROFILE + name, _usable(node, key, problems)
            found[name] = map_nodes(usable, partial(replace, origin=origin))
        elif node.value is not None:
            message = "expected a mapping of settings"
            hint = "Write, for example, {input: {limit: 8}}."
            problems.append(problem_at(node, key, message, hint))
        else:
            found[name] = replace(node, value={})
    return found


def select_profile(
    name: str | None, profiles: Mapping[str, Node], file: str, problems: list[Problem]
) -> Node:
    """The layer of the chosen profile; an empty one if none is chosen."""
    nothing = Node({}, SourceLocation(file), PROFILE)
    if name is None or name in profiles:
        return nothing if name is None else profiles[name]
    near = get_close_matches(name, profiles, 1)
    message = f"no profile {name!r}; profiles: {', '.join(profiles) or 'none'}"
    hint = f"Did you mean {near[0]}?" if near else "Choose one of them, or add it."
    problems.append(Problem("profiles", message, hint, file=file))
    return nothing


def check_unused_profile(profile: Node, merged: Node, layers: Layers) -> list[Problem]:
    """Problems of single keys and values of a profile that is not chosen.

    Placeholders (another machine may have the variable) and combinations of values are not checked.
    """
    variables = children(merged).get("vars")
    if variables is not None and "vars" not in children(profile):
        profile = merge_layers(Node({"vars": variables}, profile.location, profile.origin), profile)
    checked = check_job(profile, layers)
    skipped = {(p.file, p.line, p.column) for p in checked.problems}
    found = [
        problem_at_path(checked.tree, error.path, error.message, error.hint)
        for error in checked.schema_errors
        if not error.is_section and find_node(checked.tree, error.path) is not None
    ]
    return [p for p in found if (p.file, p.line, p.column) not in skipped]


def _usable(node: Node, key: str, problems: list[Problem]) -> Node:
    entries = dict(children(node))
    for name in ("extends", "profiles", "$schema"):
        if unusable := entries.pop(name, None):
            hint = "Write it at the top of the file."
            problems.append(problem_at(unusable, f"{key}.{name}", "not allowed in a profile", hint))
    return replace(node, value=entries)
