"""What a run tells: a bar for people, a line a minute for logs, and never more."""

import io
import re

from batchgen.run.progress_bar import ProgressBar, ProgressLines, show_progress, silent_progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_once_a_minute() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = ProgressLines("nightly", 1000, 100, stream=stream, clock=clock)
    for _ in range(130):
        clock.now += 1
        lines.rows(2, new_tokens=20, failed=0)
    told = stream.getvalue().splitlines()
    assert len(told) == 2
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ nightly 220/1,000 rows 22%", told[0])
    assert "2.0 rows/s · 20 tok/s · about 6 min left · 0 failed" in told[0]
    assert "340/1,000 rows 34%" in told[1]


def test_failures_are_counted() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = ProgressLines("nightly", 10, 0, stream=stream, clock=clock)
    clock.now += 61
    lines.rows(3, new_tokens=0, failed=3)
    assert "3 failed" in stream.getvalue()


def test_a_bar_shows_rows_speed_and_failures() -> None:
    stream = io.StringIO()
    bar = ProgressBar("nightly", 10, 4, stream)
    bar.rows(3, new_tokens=300, failed=2)
    bar.close()
    assert "7/10" in stream.getvalue()
    assert "failed=2" in stream.getvalue()


def test_a_stream_that_is_no_terminal_gets_lines() -> None:
    stream = io.StringIO()
    with show_progress("nightly", 10, 0, stream) as progress:
        progress.say("hello")
        progress.rows(10, new_tokens=1, failed=0)
    assert stream.getvalue().endswith("Z nightly hello\n")


def test_silence_is_silent(capfd: object) -> None:
    with silent_progress("nightly", 10, 0) as progress:
        progress.say("hello")
        progress.rows(1, new_tokens=1, failed=0)
    assert capfd.readouterr() == ("", "")  # type: ignore[attr-defined]  # pytest's capture fixture
