"""Text for a terminal cannot control it, and stays readable."""

import pytest

from batchgen.cli.render.terminal import (
    display_width,
    fit_width,
    format_bytes,
    format_count,
    printable,
    shorten,
    wrap,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("中文，全角。", "中文，全角。"),
        ("emoji 👍🏽", "emoji 👍🏽"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb", "a\\x0db"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("nul\x00", "nul\\x00"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("ab", 4, "ab  "),
        ("abcdef", 4, "abc…"),
        ("科目=数学", 9, "科目=数学"),
        ("科目=数学", 10, "科目=数学 "),
        ("科目=数学", 8, "科目=数…"),
        ("科目=数学", 7, "科目=… "),
        ("e\u0301e", 2, "e\u0301e"),
        ("e\u0301e", 3, "e\u0301e "),
        ("", 2, "  "),
    ],
)
def test_text_fits_a_column_of_a_table(text: str, columns: int, shown: str) -> None:
    assert fit_width(text, columns) == shown


def test_shortened_and_counted() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"
    assert format_count(1, "row") == "1 row"
    assert format_count(2048, "row") == "2,048 rows"
    assert [format_bytes(n) for n in (999, 12_000, 93_000_000, 1.2e9, 3.4e12)] == [
        "999 B",
        "12 kB",
        "93.0 MB",
        "1.2 GB",
        "3.4 TB",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("ok      short", "ok      short", id="fits"),
        pytest.param(
            "ok      python     one two three four five six seven",
            "ok      python     one two three four\n        five six seven",
            id="at a space",
        ),
        pytest.param(
            "note    " + "茶" * 20,
            "note\n        " + "茶" * 16 + "\n        茶茶茶茶",
            id="Chinese",
        ),
        pytest.param(
            "fix     /" + "x" * 40, "fix\n        /" + "x" * 31 + "\n        " + "x" * 9, id="path"
        ),
    ],
)
def test_wrap(text: str, shown: str) -> None:
    assert wrap(text, 8, 40) == shown
    assert all(display_width(line) <= 40 for line in shown.split("\n"))


def test_a_very_narrow_window_is_left_to_the_terminal() -> None:
    assert wrap("one two three four five six seven eight", 8, 20).count("\n") == 0
