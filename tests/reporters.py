"""A reporter that keeps its messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from batchgen.progress import Reporter, StepLines, StepProgress


class RecordingReporter(Reporter):
    def __init__(self, messages: list[str]) -> None:
        self._messages = messages

    def info(self, text: str) -> None:
        self._messages.append(text)

    @contextmanager
    def step(self, title: str, total: int, unit: Literal["B", "step"]) -> Iterator[StepProgress]:
        del unit
        self.info(title)
        yield StepLines(title, total, self)
