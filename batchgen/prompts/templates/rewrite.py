"""Changes to the parsed template before it is compiled: loops and `~` are counted, other files are refused."""

from jinja2 import TemplateSyntaxError, nodes

COUNTED = "batchgen_counted"
"""Name of the filter around the iterable of a loop."""
JOINED = "batchgen_joined"
"""Name of the filter around the result of `~`."""


def add_counting(tree: nodes.Template) -> None:
    """Put the counting filters around the iterables of loops and the results of `~`."""
    # {% for x in xs %} becomes {% for x in xs | counted %}; `loop.length` and `loop.last` work as before.
    for loop in tree.find_all(nodes.For):
        loop.iter = _filtered(loop.iter, COUNTED)
    # a ~ b becomes ~ of one operand, (a ~ b) | joined.
    for concat in list(tree.find_all(nodes.Concat)):
        inner = nodes.Concat(concat.nodes, lineno=concat.lineno, environment=concat.environment)
        concat.nodes = [_filtered(inner, JOINED)]


def _filtered(expression: nodes.Node, name: str) -> nodes.Filter:
    place = {"lineno": expression.lineno, "environment": expression.environment}
    return nodes.Filter(expression, name, [], [], None, None, **place)


def refuse_other_files(tree: nodes.Template) -> None:
    """Raise TemplateSyntaxError if the template needs another file."""
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise TemplateSyntaxError(
            "include, import and extends are not supported: a template is one text", node.lineno
        )
