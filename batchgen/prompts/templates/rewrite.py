"""Changes to the parsed template before it is compiled: what it does without a call is charged, other files are refused."""

from collections.abc import Iterable

from jinja2 import TemplateSyntaxError, nodes

COUNTED = "batchgen_counted"
"""Name of the filter around the iterable of a loop; its argument is the work of one pass."""
PASSED = "batchgen_passed"
"""Name of the filter at the start of the body of a recursive loop."""
JOINED = "batchgen_joined"
"""Name of the filter around the result of `~`."""
READ = "batchgen_read"
"""Name of the filter around a value that is compared, or is a key."""
SEARCHED = "batchgen_searched"
"""Name of the filter around the right side of `in`."""
COPIED = "batchgen_copied"
"""Name of the filter around a value of which a slice is taken."""
CHARGES = frozenset([COUNTED, PASSED, JOINED, READ, SEARCHED, COPIED])

WORK_OF_NODE = 10
"""Units of work of a node of the template, each time that the loop or the macro around it runs."""


def add_charges(tree: nodes.Template) -> None:
    """Put the charging filters around iterables, comparisons, slices, keys and the results of `~`."""
    for loop in list(tree.find_all(nodes.For)):
        _charge_loop(loop)
    for concat in list(tree.find_all(nodes.Concat)):
        # a ~ b becomes ~ of one operand, (a ~ b) | joined.
        texts = [_filtered(node, READ) for node in concat.nodes]
        inner = nodes.Concat(texts, lineno=concat.lineno, environment=concat.environment)
        concat.nodes = [_filtered(inner, JOINED)]
    for comparison in list(tree.find_all(nodes.Compare)):
        comparison.expr = _filtered(comparison.expr, READ)
        for operand in comparison.ops:
            searched = operand.op in ("in", "notin")
            operand.expr = _filtered(operand.expr, SEARCHED if searched else READ)
    for item in list(tree.find_all((nodes.Getitem, nodes.Pair))):
        _charge_key(item)


def _charge_loop(loop: nodes.For) -> None:
    # {% for x in xs %} becomes {% for x in xs | counted %}; `loop.length` and `loop.last` work as before.
    work = nodes.Const(_work([loop]), lineno=loop.lineno)
    loop.iter = _filtered(loop.iter, COUNTED, [work])
    if loop.recursive:
        nothing = _filtered(nodes.Const("", lineno=loop.lineno), PASSED, [work])
        loop.body.insert(0, nodes.Output([nothing], lineno=loop.lineno))


def _charge_key(node: nodes.Node) -> None:
    if isinstance(node, nodes.Pair) and not isinstance(node.key, nodes.Const):
        node.key = _filtered(node.key, READ)
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        node.node = _filtered(node.node, COPIED)
    elif isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Const):
        node.arg = _filtered(node.arg, READ)


def macro_work(tree: nodes.Template) -> int:
    """The work of one call of the largest macro."""
    return _work(tree.find_all((nodes.Macro, nodes.CallBlock, nodes.Block)))


def refuse_other_files(tree: nodes.Template) -> None:
    """Raise TemplateSyntaxError if the template needs another file."""
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise TemplateSyntaxError(
            "include, import and extends are not supported: a template is one text", node.lineno
        )


def _work(around: Iterable[nodes.Node]) -> int:
    sizes = (sum(1 for _ in node.find_all(nodes.Node)) for node in around)
    return WORK_OF_NODE * max(sizes, default=0)


def _filtered(
    expression: nodes.Node, name: str, arguments: list[nodes.Expr] | None = None
) -> nodes.Filter:
    place = {"lineno": expression.lineno, "environment": expression.environment}
    return nodes.Filter(expression, name, arguments or [], [], None, None, **place)
