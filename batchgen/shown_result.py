"""How results look in Python: the summary that the command line prints, by `print` and in a notebook.

Results are lower than what prints them, and do not import it: they name it, as `batchgen/__init__.py` names what is public.
"""

import html
import importlib
from collections.abc import Callable, Iterable

_RENDERED_BY = {
    "Plan": ("plan", "lines"),
    "RunResult": ("run_summary", "result_lines"),
    "Comparison": ("comparison", "result_lines"),
}
"""The module below `batchgen/cli/render/`, and the function that makes lines of a result."""
_STYLE = "white-space: pre-wrap; background: none; color: inherit; font-family: monospace"
"""The colours are those of the notebook, light or dark."""


class ShownResult:
    """A result that `print` and notebooks show as the command line does."""

    __slots__ = ()

    def __repr__(self) -> str:
        module, function = _RENDERED_BY[type(self).__name__]
        rendering = importlib.import_module(f"batchgen.cli.render.{module}")
        lines: Callable[[ShownResult], Iterable[str]] = getattr(rendering, function)
        printable = importlib.import_module("batchgen.cli.render.terminal").printable
        return "\n".join(printable(line) for text in lines(self) for line in text.split("\n"))

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        return f'<pre style="{_STYLE}">{html.escape(repr(self))}</pre>'
