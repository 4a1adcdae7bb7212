"""Notations of numbers."""

from fractions import Fraction

import pytest

from batchgen.metrics.number.reading import (
    Number,
    find_numbers,
    find_numerals,
    format_number,
    to_plain_digits,
)


def read(text: str) -> list[str]:
    return [format_number(number) for number in find_numbers(to_plain_digits(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Plain, grouped, decimal.
        ("18", ["18"]),
        ("18.00", ["18"]),
        ("0.50 and .5", ["0.5", "0.5"]),
        ("1,234,567.89", ["1234567.89"]),
        ("12,34,567", ["1234567"]),  # lakh
        ("1.234.567,89", ["1234567.89"]),
        ("1 000 000", ["1000000"]),
        ("1\u202f234\u00a0567", ["1234567"]),
        ("1'234", ["1234"]),
        ("1, 2, 3", ["1", "2", "3"]),
        ("3,4", ["3.4"]),  # a decimal comma; lists have spaces
        # lm-eval's flexible pattern and HELM's: "$18.00", "...", "12 34", ",".
        ("It is $18.00...", ["18"]),
        ("total ...", []),
        ("rooms 12 34", ["12", "34"]),
        ("12 apples, and pears", ["12"]),
        # Signs and strokes.
        ("-3", ["-3"]),
        ("x = −3", ["-3"]),
        ("(-3)", ["-3"]),
        ("16 - 3", ["16", "3"]),
        ("16 -3", ["16", "3"]),
        ("16-3=13", ["16", "3", "13"]),
        ("3-4 weeks", ["3", "4"]),
        ("pages 3–4", ["3", "4"]),
        ("- 5 apples", ["5"]),
        ("GPT-4, COVID-19", []),
        ("x2, H2O, x_1, 10 m^2", ["10"]),
        # Money and units.
        ("-$5, $-5, US$18, USD 1,000, €20, ¥300, Rs. 50", ["-5", "-5", "18", "1000", "20", "300", "50"]),
        ("18kg, 5pm", ["18", "5"]),
        ("50%, 12.5 percent, 5 per cent", ["50%", "12.5%", "5%"]),
        ("2.5 million, 3 thousand", ["2500000", "3000"]),
        # Fractions and powers.
        ("1/2, 1 1/2, 1½, ¾, 3⁄4", ["0.5", "1.5", "1.5", "0.75", "0.75"]),
        ("1/3", ["1/3"]),
        ("1/0", []),
        ("10² and 2^10", ["100", "1024"]),
        ("1.5e3, 3 × 10^5, 2*10^{-2}", ["1500", "300000", "0.02"]),
        # LaTeX.
        (r"\frac{3}{4}, 1\frac{1}{2}, -\dfrac12", ["0.75", "1.5", "-0.5"]),
        (r"1{,}000\,000", ["1000000"]),
        (r"$18$ and \$18 and 50\%", ["18", "18", "50%"]),
        (r"\text{18 dollars}, 3 \times 10^5", ["18", "300000"]),
        # Other scripts.
        ("１８．５％", ["18.5%"]),
        ("－５", ["-5"]),
        ("٣٫٥ و ١٢", ["3.5", "12"]),
        ("१८", ["18"]),
        ("3万5千, 1.5万, 1亿2000万, 3万5, 2百", ["35000", "15000", "120000000", "35000", "200"]),
        ("5千米, 3千克", ["5", "3"]),
        # Not numbers.
        ("1.2.3", []),
        ("2024-11-25, 3/4/2024, 3:30", []),
        ("9" * 5000, []),
        ("9^999", []),
    ],
)  # fmt: skip
def test_digits(text: str, expected: list[str]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("零", "0"),
        ("十", "10"),
        ("十八", "18"),
        ("二十", "20"),
        ("廿三", "23"),
        ("一百零五", "105"),
        ("一百一十", "110"),
        ("三百二", "320"),
        ("两千零三", "2003"),
        ("两千五", "2500"),
        ("一万五", "15000"),
        ("一万零五", "10005"),
        ("十二万三千四百五十六", "123456"),
        ("三亿", "300000000"),
        ("一亿二千万", "120000000"),
        ("一万亿", "1000000000000"),
        ("二〇二四", "2024"),
        ("壹佰贰拾叁", "123"),
        ("三点一四", "3.14"),
        ("零点零五", "0.05"),
        ("三分之二", "2/3"),
        ("一又二分之一", "1.5"),
        ("百分之五十", "50%"),
        ("百分之十二点五", "12.5%"),
        ("负三", "-3"),
    ],
)
def test_chinese_numerals(text: str, expected: str) -> None:
    assert [format_number(number) for number in find_numerals(text)] == [expected]


@pytest.mark.parametrize("text", ["百万分", "千", "二三百", "零分之一"])
def test_signs_that_are_not_numbers(text: str) -> None:
    assert [n for n in find_numerals(text) if n.end == len(text)] == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Fraction(-1, 8), "-0.125"),
        (Fraction(1, 10**30), "0." + "0" * 29 + "1"),
        (Fraction(-7, 3), "-7/3"),
        (-12, "-12"),
    ],
)
def test_equal_numbers_have_one_normal_form(value: int | Fraction, expected: str) -> None:
    assert format_number(Number(value, False, 0, 0)) == expected
