"""Text for a terminal cannot control it, and stays readable."""

import pytest

from batchgen.cli.render.terminal import fit_width, format_bytes, format_count, printable, shorten


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
