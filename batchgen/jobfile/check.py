"""The merged tree of a job: placeholders replaced, paths made absolute, validated by the schema."""

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
from batchgen.jobfile.tree import KeyPath, Node, children, drop_nulls, leaves, problem_at, to_python
from batchgen.jobfile.yaml_reader import resolve_scalar

_LOADER_KEYS = ("$schema", "extends", "matrix", "profiles", "vars")


@dataclass(frozen=True, slots=True)
class CheckedJob:
    """The values that were validated, the job (None exactly if there are schema errors), and the other problems."""

    tree: Node
    job: Job | None
    problems: tuple[Problem, ...]
    schema_errors: tuple[SchemaError, ...]


def check_job(merged: Node, layers: Layers) -> CheckedJob:
    """Replace `${...}`, make paths absolute, and validate."""
    entries = children(merged)
    body = {key: node for key, node in entries.items() if key not in _LOADER_KEYS}
    tree = replace(merged, value=body)
    problems: list[Problem] = []
    placeholders = Placeholders(layers.environment, layers.date, layers.folders)
    variables = entries.get("vars")
    if variables is not None and not isinstance(variables.value, Mapping | None):
        message = "expected a mapping of names to values"
        problems.append(problem_at(variables, "vars", message, "Write vars: {NAME: value}."))
    tree = placeholders.fill_job(tree, variables)
    tree = absolute_paths(_fitted(tree, ()), layers.folders, problems)
    problems += placeholders.problems
    try:
        job = Job.model_validate(to_python(drop_nulls(tree)))
    except ValidationError as error:
        return CheckedJob(tree, None, tuple(problems), tuple(explain(error, tree)))
    return CheckedJob(tree, job, tuple(problems), ())


def new_problems(checked: CheckedJob, known: Sequence[Problem]) -> list[Problem]:
    """The schema errors as problems, without those that follow from a known problem."""
    taken = {_position(problem) for problem in known}
    found = [
        problem_at_path(checked.tree, error.path, error.message, error.hint)
        for error in checked.schema_errors
        if not (error.is_section and known)
    ]
    return [problem for problem in found if _position(problem) not in taken]


def origins(tree: Node) -> dict[str, str]:
    """Where each value came from, by dotted key. A free mapping is one value."""
    found: dict[str, list[str]] = {}
    for path, node in leaves(drop_nulls(tree)):
        key = _setting(path)
        if key and node.origin not in found.setdefault(key, []):
            found[key].append(node.origin)
    return {key: ", ".join(names) for key, names in found.items()}


def _position(problem: Problem) -> tuple[object, ...]:
    where = (problem.line, problem.column) if problem.line else (problem.key,)
    return (problem.file, *where)


def _setting(path: KeyPath) -> str:
    """The key in the schema that a value belongs to; empty for an empty section."""
    for length in range(1, len(path) + 1):
        expected = expected_at(path[:length])
        if expected is not None and expected.section is None:
            return ".".join(str(step) for step in path[:length])
    return ""


def _fitted(node: Node, path: KeyPath) -> Node:
    """Convert text from `${...}` to a number or boolean where the schema expects one."""
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
