"""Confusion matrices as tables for a terminal: a line for each reference label, a column for each answer."""

from collections.abc import Iterator, Sequence

from batchgen.cli.render.terminal import display_width, fit_width, printable, window_width
from batchgen.evaluation.confusion import ConfusionMatrix

SHOWN_LABELS = 12
"""Most labels of a matrix that is printed."""
_NO_ANSWER = "no answer"
_NARROWEST = 4


def confusion_lines(matrices: Sequence[ConfusionMatrix]) -> Iterator[str]:
    """Each matrix as a table; of one with many labels, where to find it."""
    for matrix in matrices:
        name = printable(matrix.metric)
        if not matrix.counts:
            continue
        if len(matrix.labels) > SHOWN_LABELS:
            yield f"confusion matrix of {name}: {len(matrix.labels)} labels: in scores.parquet, columns reference and answer"
            continue
        yield f"confusion matrix of {name}: a line for each reference, a column for each answer"
        yield from _table(matrix)


def _table(matrix: ConfusionMatrix) -> Iterator[str]:
    """As wide as the window: names too long for it are cut."""
    names = [printable(label) for label in matrix.labels]
    heads = [*names, _NO_ANSWER]
    counts = [[matrix.counts.get((r, a), 0) for a in (*matrix.labels, None)] for r in matrix.labels]
    first = min(max(map(display_width, names)), 24)
    room = (window_width() - first - 2) // len(heads) - 2
    widest = max(len(f"{count:,}") for row in counts for count in row)
    wanted = [max(display_width(head), widest) for head in heads]
    widths = [max(min(one, room), widest, _NARROWEST) for one in wanted]
    yield _line("", heads, first, widths)
    for name, row in zip(names, counts, strict=True):
        yield _line(name, [f"{count:,}" for count in row], first, widths)


def _line(name: str, cells: Sequence[str], first: int, widths: Sequence[int]) -> str:
    aligned = (_right(cell, width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([f"  {fit_width(name, first)}", *aligned])


def _right(text: str, columns: int) -> str:
    """The text cut, or padded on its left."""
    return (
        " " * (columns - display_width(text)) + text
        if display_width(text) < columns
        else fit_width(text, columns)
    )
