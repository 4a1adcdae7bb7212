"""What is done to the tree of a template before it is compiled: loops and joins are made to count, other files refused."""

from jinja2 import TemplateSyntaxError, nodes

COUNTED = "batchgen_counted"
"""Name of the filter around what a loop goes through."""
JOINED = "batchgen_joined"
"""Name of the filter around what ~ has joined."""


def add_step_counting(tree: nodes.Template) -> None:
    """Put the counting filters around loops and joins."""
    # {% for x in xs %} becomes {% for x in xs | counted %}; `loop.length` and `loop.last` work as before.
    for loop in tree.find_all(nodes.For):
        loop.iter = _filtered(loop.iter, COUNTED)
    # a ~ b becomes (a ~ b) | joined, wherever it stands.
    _wrap_joins(tree)


def _wrap_joins(node: nodes.Node) -> None:
    for name, value in node.iter_fields():
        inner = value if isinstance(value, list) else [value]
        for child in inner:
            if isinstance(child, nodes.Node):
                _wrap_joins(child)
        wrapped = [_filtered(c, JOINED) if isinstance(c, nodes.Concat) else c for c in inner]
        setattr(node, name, wrapped if isinstance(value, list) else wrapped[0])


def _filtered(expression: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(
        expression,
        name,
        [],
        [],
        None,
        None,
        lineno=expression.lineno,
        environment=expression.environment,
    )


def refuse_other_files(tree: nodes.Template) -> None:
    """Raise TemplateSyntaxError where the template would need another file."""
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise TemplateSyntaxError(
            "a template here is one text: no include, import or extends", node.lineno
        )
