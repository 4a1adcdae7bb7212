"""The merged tree of a job, filled in and checked against the schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from batchgen.errors import Problem
from batchgen.job.spec import Job
from batchgen.jobfile.interpolate import Placeholders
from batchgen.jobfile.job_paths import absolute_paths
from batchgen.jobfile.layers import Layers
from batchgen.jobfile.messages.expected_types import expected_at
from batchgen.jobfile.messages.explain import SchemaError, explain, problem_at_path
from batchgen.jobfile.tree import KeyPath, Node, children, drop_nulls, problem_at, to_python, walk
from batchgen.jobfile.yaml_reader import resolve_scalar

_LOADER_KEYS = ("$schema", "extends", "profiles", "vars")


@dataclass(frozen=True, slots=True)
class CheckedJob:
    """What came of a tree.

    Attributes:
        tree: the values as the schema saw them: filled in, with absolute paths.
        job: None exactly if there are findings.
        problems: met while filling in.
        findings: what does not fit the schema.
    """

    tree: Node
    job: Job | None
    problems: tuple[Problem, ...]
    findings: tuple[SchemaError, ...]


def check_job(merged: Node, layers: Layers) -> CheckedJob:
    """Fill in `${...}`, make paths absolute, and validate."""
    entries = children(merged)
    body = {key: node for key, node in entries.items() if key not in _LOADER_KEYS}
    tree = replace(merged, value=body)
    problems: list[Problem] = []
    placeholders = Placeholders(layers.environment, layers.date, layers.folders)
    variables = entries.get("vars")
    if variables is not None and not isinstance(variables.value, Mapping | None):
        problems.append(problem_at(variables, "vars", "expected a mapping of names to values"))
    tree = placeholders.fill_job(tree, variables)
    tree = absolute_paths(_fitted(tree, ()), layers.folders, problems)
    problems += placeholders.problems
    try:
        job = Job.model_validate(to_python(drop_nulls(tree)))
    except ValidationError as error:
        return CheckedJob(tree, None, tuple(problems), tuple(explain(error, tree)))
    return CheckedJob(tree, job, tuple(problems), ())


def new_problems(checked: CheckedJob, known: Sequence[Problem]) -> list[Problem]:
    """The findings as problems, less those that only follow from a problem that is known already."""
    taken = {_spot(problem) for problem in known}
    found = [
        problem_at_path(checked.tree, finding.path, finding.message, finding.hint)
        for finding in checked.findings
        if not (finding.whole and known)
    ]
    return [problem for problem in found if _spot(problem) not in taken]


def origins(tree: Node) -> dict[str, str]:
    """Where each value came from, by dotted key. What a free mapping holds counts as one value."""
    found: dict[str, list[str]] = {}
    for path, node in walk(drop_nulls(tree)):
        key = _setting(path)
        if key and node.origin not in found.setdefault(key, []):
            found[key].append(node.origin)
    return {key: ", ".join(names) for key, names in found.items()}


def _spot(problem: Problem) -> tuple[object, ...]:
    """What tells places apart: the position, or the key where there is none."""
    if problem.line:
        return (problem.file, problem.line, problem.column)
    return (problem.file, problem.key)


def _setting(path: KeyPath) -> str:
    """The key of the schema that a value belongs to; empty for an empty section."""
    for length in range(1, len(path) + 1):
        expected = expected_at(path[:length])
        if expected is not None and expected.section is None:
            return ".".join(str(step) for step in path[:length])
    return ""


def _fitted(node: Node, path: KeyPath) -> Node:
    """Text that `${...}` made is read as a number or as true and false where the schema expects one."""
    if isinstance(node.value, Mapping):
        value = {key: _fitted(inner, (*path, key)) for key, inner in node.value.items()}
        return replace(node, value=value)
    if isinstance(node.value, tuple):
        items = tuple(_fitted(inner, (*path, i)) for i, inner in enumerate(node.value))
        return replace(node, value=items)
    if not node.raw or not isinstance(node.value, str):
        return node
    expected = expected_at(path)
    if expected is None or expected.takes_text:
        return node
    return replace(node, value=resolve_scalar(node.value))
