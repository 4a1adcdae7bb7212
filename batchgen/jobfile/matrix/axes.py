"""The axes of a matrix: keys of the job, each with a list of values.

    matrix: {decoding.temperature: [0, 0.7]}     in the job file, a base file or a profile
    --matrix 'decoding.temperature=[0, 0.7]'     in place of the list that these have for the key

A key with a value that `--set` gives cannot vary. The values are nodes, so that errors point to their lines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from batchgen.errors import Problem
from batchgen.jobfile.matrix.variable_keys import key_problem
from batchgen.jobfile.merge import canonicalize, merge_layers
from batchgen.jobfile.overrides import canonical_path
from batchgen.jobfile.tree import (
    COMMAND_LINE,
    MATRIX,
    MATRIX_OPTION,
    Node,
    SourceLocation,
    children,
    find_node,
    map_nodes,
    parse_key,
    problem_at,
    shorten,
    to_python,
)
from batchgen.jobfile.yaml_reader import read_yaml

MOST_COMBINATIONS = 1000


@dataclass(frozen=True, slots=True)
class Axis:
    """A key with its values.

    Attributes:
        key: as the user wrote it.
        path: in the schema.
        node: the list.
    """

    key: str
    path: tuple[str, ...]
    node: Node

    @property
    def values(self) -> tuple[Node, ...]:
        return self.node.value if isinstance(self.node.value, tuple) else ()

    def layer(self, value: Node) -> Node:
        """A layer of the job with this value alone."""
        node = map_nodes(value, partial(replace, origin=self.node.origin))
        for step in reversed(_steps(self.key)):
            node = Node({step: node}, self.node.location, self.node.origin)
        return canonicalize(node, [])

    def note(self, node: Node, message: str, hint: str) -> Problem:
        given = f" (given by {MATRIX_OPTION})" if node.origin == MATRIX_OPTION else ""
        return problem_at(node, self.key, message + given, hint)


def read_axes(tree: Node, options: Sequence[str], file: str, problems: list[Problem]) -> list[Axis]:
    """The axes of a merged job and of all `--matrix`; those with problems are left out. `file` is the job's name in messages."""
    axes = {axis.path: axis for axis in _written_axes(tree, problems)}
    given: set[tuple[str, ...]] = set()
    for option in options:
        axis = _option_axis(option, file, problems)
        if axis is None:
            continue
        if axis.path in given:
            problems.append(axis.note(axis.node, "given twice", "Write one list with all values."))
        given.add(axis.path)
        axes[axis.path] = axis
    found = [axis for axis in axes.values() if _is_usable(axis, tree, problems)]
    problems += _overlaps(found)
    count = 1
    for axis in found:
        count *= len(axis.values)
    if count > MOST_COMBINATIONS:
        message = f"{count:,} combinations; expected at most {MOST_COMBINATIONS:,}"
        problems.append(found[0].note(found[0].node, message, "Use fewer values."))
    return found


def _written_axes(tree: Node, problems: list[Problem]) -> list[Axis]:
    section = children(tree).get("matrix")
    if section is None or section.value is None:
        return []
    if not isinstance(section.value, Mapping):
        message = "expected a mapping of keys to lists of values"
        hint = "Write, for example, decoding.temperature: [0, 0.7] beneath it."
        problems.append(problem_at(section, "matrix", message, hint))
        return []
    given = {key: node for key, node in section.value.items() if node.value is not None}
    return [_axis(key, replace(node, origin=MATRIX)) for key, node in given.items()]


def _option_axis(option: str, file: str, problems: list[Problem]) -> Axis | None:
    key, equals, text = option.partition("=")
    key = key.strip()
    if not equals or not key:
        message = f"--matrix {shorten(option, 80)}: expected KEY=[VALUE, ...] with a key such as decoding.temperature"
        problems.append(Problem("", message, "Write --matrix 'decoding.temperature=[0, 0.7]'."))
        return None
    reading = read_yaml(text, file=file, origin=MATRIX_OPTION)
    if reading.problems:
        first = reading.problems[0]
        hint = "Quote a text that contains { } [ ] : # or a comma."
        problems.append(Problem(key, f"{first.message} (given by {MATRIX_OPTION})", hint))
        return None
    top = reading.top or Node(None, SourceLocation(file), MATRIX_OPTION)
    return _axis(key, map_nodes(top, lambda node: replace(node, location=SourceLocation(file))))


def _axis(key: str, node: Node) -> Axis:
    return Axis(key, canonical_path(_steps(key)), node)


def _steps(key: str) -> list[str]:
    return [step for step in parse_key(key) if isinstance(step, str)]


def _is_usable(axis: Axis, tree: Node, problems: list[Problem]) -> bool:
    """Whether the key may vary and has values; if not, the problem is added."""
    found = _axis_problem(axis, tree)
    if found is not None:
        problems.append(found)
    return found is None


def _axis_problem(axis: Axis, tree: Node) -> Problem | None:
    if found := key_problem(axis.key, axis.path):
        return axis.note(axis.node, *found)
    if not isinstance(axis.node.value, tuple):
        return axis.note(axis.node, *_no_list(axis))
    fixed = find_node(tree, axis.path)
    if fixed is not None and fixed.origin == COMMAND_LINE:
        message = "varies in the matrix and is given by --set"
        return axis.note(axis.node, message, "Leave one of them out.")
    return _values_problem(axis)


def _values_problem(axis: Axis) -> Problem | None:
    if not axis.values:
        return axis.note(
            axis.node, "an empty list; expected one or more values", "List the values."
        )
    seen: list[object] = []
    for value in axis.values:
        plain = _typed(to_python(value))
        if plain in seen:
            shown = shorten(str(to_python(value)), 40)
            return axis.note(value, f"the value {shown} is listed twice", "List each value once.")
        seen.append(plain)
    return None


def _no_list(axis: Axis) -> tuple[str, str]:
    if isinstance(axis.node.value, Mapping):
        inner = next(iter(axis.node.value), "KEY")
        return (
            "expected a list of values; found a mapping",
            f"Write the whole key on one line: {axis.key}.{inner}: [VALUE, ...].",
        )
    shown = shorten(str(axis.node.value), 40)
    return f"expected a list of values; found {shown}", f"Write a list: [{shown}]."


def _typed(value: object) -> object:
    """The value with booleans that are unequal to numbers; 0 and 0.0 are equal."""
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    return (type(value) is bool, value)


def _overlaps(axes: Sequence[Axis]) -> list[Problem]:
    """A key and a section around it cannot both vary."""
    return [
        inner.note(
            inner.node,
            f"varies together with {outer.key}, which contains it",
            f"List whole sections in {outer.key}, or single keys.",
        )
        for outer in axes
        for inner in axes
        if outer is not inner and inner.path[: len(outer.path)] == outer.path
    ]


def combination_layer(axes: Sequence[Axis], values: Sequence[Node]) -> Node:
    """The layer of one combination."""
    layer = Node({}, values[0].location, axes[0].node.origin)
    for axis, value in zip(axes, values, strict=True):
        layer = merge_layers(layer, axis.layer(value))
    return layer
