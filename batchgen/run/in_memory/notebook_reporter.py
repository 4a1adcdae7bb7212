"""Progress in a notebook: the bars of tqdm.auto, which are widgets where ipywidgets is installed."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import TqdmWarning

from batchgen.progress import ConsoleReporter


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules


class NotebookReporter(ConsoleReporter):
    """Draws bars in the cell, and prints messages without the time."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401  # the stream of a kernel has no type
        super().__init__(stream)
        self.draws_bars = True

    @contextmanager
    def _bar(self, title: str, total: int, **options: Any) -> Iterator[Any]:  # noqa: ANN401  # of tqdm
        with warnings.catch_warnings():
            # It falls back to a bar of text, without ipywidgets.
            warnings.simplefilter("ignore", TqdmWarning)
            from tqdm.auto import tqdm
        with self._showing(), tqdm(desc=title, total=total, **options) as bar:
            yield bar
