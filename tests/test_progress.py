"""Bars on a terminal, lines with the time elsewhere, nothing from the silent reporter."""

import errno
import io
import os
import re
import threading
import time
from pathlib import Path

import pytest
from tqdm import tqdm

from batchgen import progress
from batchgen.progress import SILENT, ConsoleReporter, RowBar, RowLines
from batchgen.records import InFlight
from batchgen.work_left import RowCounts


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
    assert log.getvalue().endswith("Z downloading\n")
    assert len(log.getvalue().splitlines()) == 1


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


def test_a_run_without_a_terminal_prints_a_line_after_ten_seconds_and_one_a_minute() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = ConsoleReporter(stream, clock=clock)
    counts = RowCounts(1000, 100, lambda: InFlight(8, 40), clock)
    lines = RowLines("nightly", counts, unit="row", reporter=reporter)
    for _ in range(150):
        clock.now += 1
        lines.update()
        lines.add(2, new_tokens=20)
    printed = stream.getvalue().splitlines()
    assert len(printed) == 3
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ nightly 118/1,000 rows 12%", printed[0])
    assert "· 10 s · 8 rows in flight · 220 tokens · 22 tok/s · 1.8 rows/s" in printed[0]
    assert "218/1,000 rows 22% · 1 min · 8 rows in flight" in printed[1]
    assert "about 6 min left · 0 failed" in printed[1]
    assert "338/1,000 rows 34% · 2 min" in printed[2]


def test_progress_is_shown_before_the_first_row_is_finished() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = ConsoleReporter(stream, clock=clock)
    counts = RowCounts(6, 0, lambda: InFlight(6, 3600), clock)
    lines = RowLines("slow", counts, unit="row", reporter=reporter)
    clock.now += 60
    lines.update()
    (printed,) = stream.getvalue().splitlines()
    text = "slow 0/6 rows 0% · 1 min · 6 rows in flight · 3,600 tokens · 60 tok/s · 0 failed"
    assert printed.endswith(text)


def test_answers_are_not_called_rows() -> None:
    stream, clock = io.StringIO(), Clock()
    counts = RowCounts(48, 0, lambda: InFlight(6, 10), clock)
    reporter = ConsoleReporter(stream, clock=clock)
    lines = RowLines("n", counts, unit="answer", reporter=reporter)
    clock.now += 61
    lines.add(3, failed=3)
    lines.update()
    assert "3/48 answers 6%" in stream.getvalue()
    assert "6 answers in flight" in stream.getvalue()
    assert "3 failed" in stream.getvalue()


def test_the_thread_updates_a_run_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_UPDATE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.0)
    log, terminal = io.StringIO(), Terminal()
    for stream in (log, terminal):
        with ConsoleReporter(stream).rows("slow", 6, 0, in_flight=lambda: InFlight(6, 1234)):
            deadline = time.monotonic() + 10
            while "6 rows in flight" not in stream.getvalue() and time.monotonic() < deadline:
                time.sleep(0.01)
    assert "6 rows in flight · 1,234 tokens" in log.getvalue()
    assert "tok/s, 6 rows in flight" in terminal.getvalue()


def test_a_long_silence_is_interrupted_once_a_minute() -> None:
    stream, clock = io.StringIO(), Clock()
    reporter = ConsoleReporter(stream, clock=clock)
    reporter.info("loading a model")
    for _ in range(130):
        clock.now += 1
        reporter.interrupt_silence()
    reporter.begin("scoring")
    clock.now += 30
    reporter.interrupt_silence()
    clock.now += 30
    reporter.interrupt_silence()
    shown = [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()]
    assert shown == [
        "loading a model",
        "1 min since: loading a model",
        "2 min since: loading a model",
        "1 min since: scoring",
    ]


def test_an_abandoned_operation_is_finalized_in_the_thread_that_updates_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Garbage is collected in any thread, also while it updates what is shown."""
    monkeypatch.setattr(progress, "_UPDATE_SECONDS", 0.001)
    abandoned = [ConsoleReporter(io.StringIO()).rows("first", 6, 0)]
    abandoned[0].__enter__()
    updated = threading.Event()

    def in_flight() -> InFlight:
        time.sleep(0.01)  # the abandoned thread waits for the lock now
        abandoned.clear()
        updated.set()
        return InFlight(6, 1)

    with ConsoleReporter(Terminal()).rows("second", 6, 0, in_flight=in_flight):
        assert updated.wait(10)
    names = [thread.name for thread in threading.enumerate()]
    assert "batchgen progress" not in names


class LostTerminal(Terminal):
    """A terminal that is closed while the bar is drawn for the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = threading.Event()

    def write(self, text: str) -> int:
        if "in flight" in text:
            self.lost.set()
        if self.lost.is_set():
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        return super().write(text)


def test_a_terminal_that_is_lost_blocks_no_other_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that draws ends with the error; what it held is released."""
    monkeypatch.setattr(progress, "_UPDATE_SECONDS", 0.01)
    terminal, drawn = LostTerminal(), threading.Event()

    def draw_another() -> None:
        with ConsoleReporter(Terminal()).rows("second", 6, 0) as rows:
            rows.add(6)
        drawn.set()

    with (
        pytest.raises(OSError, match="Broken pipe"),
        ConsoleReporter(terminal).rows("first", 6, 0, in_flight=lambda: InFlight(6, 1)),
    ):
        assert terminal.lost.wait(10)
    threading.Thread(target=draw_another, daemon=True).start()
    assert drawn.wait(10)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # that is the test
def test_a_process_may_fork_while_progress_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child must not inherit a lock that the thread holds."""
    monkeypatch.setattr(progress, "_UPDATE_SECONDS", 0.0005)
    with (
        Path(os.devnull).open("w", encoding="utf-8") as stream,
        ConsoleReporter(stream).rows("n", 6, 0) as rows,
    ):
        for _ in range(50):
            child = os.fork()
            if child == 0:
                rows.add(1)
                stream.write("from the child\n")
                stream.flush()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0


def test_a_run_on_a_terminal_is_a_bar_with_messages_above_it() -> None:
    terminal = Terminal()
    reporter = ConsoleReporter(terminal)
    with reporter.rows("nightly", 10, 4) as rows:
        rows.add(3, new_tokens=300, failed=2)
        reporter.info("a message")
    assert "7/10" in terminal.getvalue()
    assert "2 failed" in terminal.getvalue()
    assert re.search(r"(^|\r) *\r?a message\n", terminal.getvalue())


def test_messages_are_lines() -> None:
    log = io.StringIO()
    reporter = ConsoleReporter(log)
    reporter.info("loading a model")
    assert not reporter.draws_bars
    assert re.fullmatch(r"[-:T\d]{19}Z loading a model\n", log.getvalue())


def test_the_silent_reporter_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    SILENT.info("hello")
    with SILENT.step("x", 1, "step") as step, SILENT.rows("x", 1, 0) as rows:
        step.reached(1)
        rows.add(1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("columns", "has_tokens"), [(80, False), (120, True)])
def test_failed_rows_and_speed_are_not_cut_off_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int, has_tokens: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal, clock = io.StringIO(), Clock()
    counts = RowCounts(40_000, 0, lambda: InFlight(0, 0), clock)
    with tqdm(total=40_000, file=terminal, ncols=columns, desc="replies", unit="row") as drawn:
        bar = RowBar(drawn, counts, "row")
        clock.now += 7
        bar.add(10_240, new_tokens=823_450, failed=3)
        bar.update()
    (*_, last) = [line for line in terminal.getvalue().split("\r") if "failed" in line]
    assert "3 failed, 117,636 tok/s" in last
    assert ("823,450 tokens]" in last) == has_tokens
