"""Finds the columns that a template of the job reads, and binds them before the functions of Jinja.

`{{ question }}` and `{{ row["question"] }}` read the same column; the second form is for names that are not identifiers.
A column wins over a function of the same name, except where the function is called: `{{ range }}`, but `range(3)`.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from jinja2 import Environment, TemplateSyntaxError, meta, nodes
from jinja2.visitor import NodeTransformer

ROW = "row"
"""The variable whose items are the columns."""
_KEYWORDS = frozenset(
    ("and", "else", "false", "False", "if", "in", "is", "none", "None", "not", "or", "true", "True")
)
"""Words that Jinja reads as operators or constants."""
_SCOPED = frozenset(("caller", "varargs", "kwargs"))
"""Variables of a macro."""
_MacroNode = TypeVar("_MacroNode", nodes.Macro, nodes.CallBlock)


@dataclass(frozen=True, slots=True)
class ColumnBinding:
    """The columns of a template.

    Attributes:
        variables: the column of each variable of the compiled template.
        functions: of these variables, those that are a function if the input has no such column.
    """

    variables: dict[str, str]
    functions: dict[str, str]


def bind_columns(tree: nodes.Template, functions: Collection[str]) -> ColumnBinding:
    """Replace each use of a column by a variable that nothing else can have.

    Args:
        tree: changed in place.
        functions: names that have a value without a column, such as `range`.
    """
    binder = _Binder(tree, frozenset(functions))
    binder.visit(tree)
    return ColumnBinding(binder.variables, binder.functions)


def column_expression(column: str) -> str:
    """The expression that reads a column: its name, or an item of `row`."""
    plain = column.isidentifier() and column not in _KEYWORDS and column != ROW
    return column if plain else f"{ROW}[{json.dumps(column, ensure_ascii=False)}]"


def nearest_column(name: str, columns: Sequence[str]) -> str | None:
    """The column that was probably meant."""
    folded = {"".join(c.casefold().split()): c for c in reversed(columns)}
    if (same := folded.get("".join(name.casefold().split()))) is not None:
        return same
    return next(iter(get_close_matches(name, columns, n=1, cutoff=0.5)), None)


def literal_texts(source: str) -> list[str]:
    """The parts of a template that are sent as they stand; none if it is invalid."""
    try:
        tree = Environment(autoescape=False).parse(source)
    except (TemplateSyntaxError, RecursionError):
        return []
    return [data.data for data in tree.find_all(nodes.TemplateData)]


def written_column(source: str, columns: Iterable[str], name: str = "") -> str | None:
    """The longest column that is not an identifier, contains `name`, and is in an expression of the template as it stands."""
    odd = sorted(_odd(columns), key=len, reverse=True)
    inside = [text.casefold() for text in _expressions(source)]
    named = (column for column in odd if name in column)
    return next((c for c in named if any(_contains(t, c.casefold()) for t in inside)), None)


def nearest_written(source: str, columns: Iterable[str]) -> str | None:
    """The column that is not an identifier and resembles an expression of the template, without its filters."""
    odd = _odd(columns)
    texts = (text.partition("|")[0].strip(" -+") for text in _expressions(source))
    return next((near for text in texts if text and (near := nearest_column(text, odd))), None)


def _odd(columns: Iterable[str]) -> list[str]:
    return [column for column in columns if column_expression(column) != column]


def _expressions(source: str) -> Iterator[str]:
    """The texts between {{ and }}, and between {% and %}."""
    for opened, closed in (("{{", "}}"), ("{%", "%}")):
        for part in source.split(opened)[1:]:
            yield part.partition(closed)[0]


def _contains(text: str, column: str) -> bool:
    before, found, after = text.partition(column)
    return bool(found) and not before[-1:].isalnum() and not after[:1].isalnum()


class _Binder(NodeTransformer):
    def __init__(self, tree: nodes.Template, functions: frozenset[str]) -> None:
        names = list(tree.find_all(nodes.Name))
        macros = (macro.name for macro in tree.find_all(nodes.Macro))
        self._assigned = {n.name for n in names if n.ctx != "load"}.union(macros)
        self._has_blocks = tree.find(nodes.Block) is not None
        self._functions = functions
        self._loops = self._macros = 0
        self.functions: dict[str, str] = {}
        # Names that are assigned in one scope and read in another one keep their name.
        both = meta.find_undeclared_variables(tree) & self._assigned
        self.variables = {n.name: n.name for n in names if n.name in both}

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - dispatched by the name of the node
        node.iter = self.visit(node.iter)
        node.test = self.visit(node.test) if node.test is not None else None
        self._loops += 1
        self._visit_all(node.body)
        self._loops -= 1
        self._visit_all(node.else_)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:  # noqa: N802
        return self._visit_macro(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.CallBlock:  # noqa: N802
        return self._visit_macro(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        called = node.node
        if not (isinstance(called, nodes.Name) and called.name in self._functions):
            node.node = self.visit(called)
        self._visit_all(node.args)
        self._visit_all(node.kwargs)
        for attribute in ("dyn_args", "dyn_kwargs"):
            if (given := getattr(node, attribute)) is not None:
                setattr(node, attribute, self.visit(given))
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        key = node.arg
        if self._is_row(node.node) and isinstance(key, nodes.Const) and isinstance(key.value, str):
            return self._variable(key.value, node.lineno)
        return self.generic_visit(node)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        if node.ctx != "load" or node.name in self._assigned or self._is_scoped(node.name):
            return node
        if node.name in self._functions:
            variable = self._variable(node.name, node.lineno)
            self.functions[variable.name] = node.name
            return variable
        return self._variable(node.name, node.lineno)

    def _visit_macro(self, node: _MacroNode) -> _MacroNode:
        self._macros += 1
        self.generic_visit(node)
        self._macros -= 1
        return node

    def _visit_all(self, children: list[Any]) -> None:
        children[:] = [self.visit(child) for child in children]

    def _is_row(self, node: nodes.Node) -> bool:
        return isinstance(node, nodes.Name) and node.name == ROW and ROW not in self._assigned

    def _is_scoped(self, name: str) -> bool:
        """Whether the name is a variable of the loop, the macro or the block around it."""
        if name == "loop":
            return self._loops > 0
        if name in _SCOPED:
            return self._macros > 0
        return name in ("self", "super") and self._has_blocks

    def _variable(self, column: str, line: int) -> nodes.Name:
        known = (v for v, c in self.variables.items() if c == column and v.startswith(_VARIABLE))
        variable = next(known, None) or f"{_VARIABLE}{len(self.variables)}"
        self.variables[variable] = column
        return nodes.Name(variable, "load", lineno=line)


_VARIABLE = "batchgen_column_"
