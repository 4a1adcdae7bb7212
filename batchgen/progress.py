"""How a long step shows itself: a bar where there is a terminal, else a plain line now and then.

Knows nothing of models. Who may be spoken to is decided by the caller, who knows of `--quiet`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Never, Self, TextIO

from tqdm import tqdm

Say = Callable[[str], None]
LINE_EVERY_SECONDS = 60.0


def silent(text: str) -> None:
    """Say nothing; the default of every function that could."""
    del text


@dataclass(frozen=True, slots=True)
class StepProgress:
    """Where words about a long step go.

    Attributes:
        say: takes one line of text.
        terminal: where a bar may be drawn; None where there is no terminal, or nobody wants a bar.
    """

    say: Say = silent
    terminal: TextIO | None = None

    def meter(self, title: str, total: int, unit: Literal["B", "step"]) -> "ByteMeter":
        """A meter from 0 to `total`, to be used in a `with` statement."""
        return ByteMeter(title, total, unit, self)


class ByteMeter:
    """One step under way. `reached` takes the amount done so far, not what was added."""

    def __init__(
        self, title: str, total: int, unit: Literal["B", "step"], progress: StepProgress
    ) -> None:
        self._title = title
        self._total = total
        self._say = progress.say
        self._line_at = time.monotonic() + LINE_EVERY_SECONDS
        self._bar: tqdm[Never] | None = None
        if progress.terminal is None:
            self._say(title)
            return
        self._bar = tqdm(
            desc=title,
            total=total,
            unit=unit,
            unit_scale=unit == "B",
            file=progress.terminal,
            leave=False,
            dynamic_ncols=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def reached(self, amount: int, note: str = "") -> None:
        """Show that `amount` of the total is done and, in a word, what comes now."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(max(0, min(amount, self._total) - self._bar.n))
            self._bar.refresh()
        elif time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_EVERY_SECONDS
            self._say(f"{self._title}: {amount / self._total:.0%}")
