"""Bars on a terminal, a line a minute elsewhere, nothing from the silent reporter."""

import io
import re

import pytest

from batchgen.progress import SILENT, ConsoleReporter, RowLines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_step_without_a_terminal_is_one_line() -> None:
    log = io.StringIO()
    with ConsoleReporter(log).step("downloading", 100, "B") as step:
        for amount in range(0, 101, 10):
            step.reached(amount)
    assert log.getvalue() == "downloading\n"


def test_a_step_on_a_terminal_is_a_bar() -> None:
    terminal = Terminal()
    with ConsoleReporter(terminal).step("converting", 4, "step") as step:
        step.reached(2, "reading")
    shown = terminal.getvalue()
    assert all(text in shown for text in ("converting", "2/4", "reading"))


@pytest.mark.parametrize(
    "amounts", [(150,), (50, 20), (-5,)], ids=["too much", "backwards", "negative"]
)
def test_a_bar_never_leaves_its_range(amounts: tuple[int, ...]) -> None:
    terminal = Terminal()
    with ConsoleReporter(terminal).step("downloading", 100, "step") as step:
        for amount in amounts:
            step.reached(amount)
    assert "101/100" not in terminal.getvalue()
    assert "-" not in terminal.getvalue().replace("it/s", "")


def test_a_bar_is_closed_when_the_step_fails() -> None:
    terminal = Terminal()
    with pytest.raises(ValueError, match="of the step"):  # noqa: PT012, SIM117  # the error is raised inside the step
        with ConsoleReporter(terminal).step("x", 2, "step") as step:
            step.reached(1)
            raise ValueError("of the step")
    assert terminal.getvalue().endswith("\r")


def test_a_run_without_a_terminal_prints_a_line_a_minute() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = RowLines("nightly", 1000, 100, stream=stream, clock=clock)
    for _ in range(130):
        clock.now += 1
        lines.add(2, new_tokens=20)
    printed = stream.getvalue().splitlines()
    assert len(printed) == 2
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ nightly 220/1,000 rows 22%", printed[0])
    assert "2.0 rows/s · 20 tok/s · about 6 min left · 0 failed" in printed[0]
    assert "340/1,000 rows 34%" in printed[1]


def test_failures_are_counted() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = RowLines("nightly", 10, 0, stream=stream, clock=clock)
    clock.now += 61
    lines.add(3, failed=3)
    assert "3 failed" in stream.getvalue()


def test_a_run_on_a_terminal_is_a_bar_with_messages_above_it() -> None:
    terminal = Terminal()
    reporter = ConsoleReporter(terminal)
    with reporter.rows("nightly", 10, 4) as rows:
        rows.add(3, new_tokens=300, failed=2)
        reporter.info("a message")
    assert "7/10" in terminal.getvalue()
    assert "failed=2" in terminal.getvalue()
    assert re.search(r"(^|\r) *\r?a message\n", terminal.getvalue())


def test_messages_are_lines() -> None:
    log = io.StringIO()
    reporter = ConsoleReporter(log)
    reporter.info("loading a model")
    assert not reporter.draws_bars
    assert log.getvalue() == "loading a model\n"


def test_the_silent_reporter_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    SILENT.info("hello")
    with SILENT.step("x", 1, "step") as step, SILENT.rows("x", 1, 0) as rows:
        step.reached(1)
        rows.add(1)
    assert capfd.readouterr() == ("", "")
