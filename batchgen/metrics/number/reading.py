"""The numbers in a text, with their positions: digits in every usual notation, and Chinese numerals.

    1,234.5   1.234,56   1 000   1/2   1 1/2   ½   -3   −３   $18   18%   1.5e3   3 × 10^5   2.5 million   3万5千   十八

Not numbers: `GPT-4`, `x2`, `1.2.3`, `2024-11-25`, `3:30`. Not signs: the hyphens in `16 - 3` and `3-4 weeks`.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from batchgen.metrics.number.chinese import PATTERN, read_numeral
from batchgen.metrics.number.english import PATTERN as NUMBER_WORDS
from batchgen.metrics.number.english import read_words
from batchgen.privacy.normalize import ascii_forms

Value = int | Fraction


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a text.

    Attributes:
        value: exact; 50% is 50 with `percent`.
        start: where it begins in the plain form of the text, currency included, sign not.
        end: where it ends, percent sign and magnitude included.
    """

    value: Value
    percent: bool
    start: int
    end: int


_SPACES = "\u00a0\u2009\u202f"
"""Spaces that group digits: no-break and thin ones."""
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-", strict=True))
_VULGAR = re.compile(r"(?<=[0-9])(?=[¼-¾⅐-⅞↉])")
_VULGAR_FRACTION = re.compile(r"[¼-¾⅐-⅞↉]")
_SUPERSCRIPT = re.compile(r"(?<=[0-9)])⁻?[⁰¹²³⁴-⁹]+")

_TIMES = re.compile(r"(?<=[0-9]) x (?=[0-9])")
_LATEX = (
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"(?<=[0-9])\\[dt]?frac(?=[\s{0-9])"), r" \\frac"),
    (re.compile(r"\\[dt]?frac\s*\{\s*([0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac\s*([0-9])\s*([0-9])"), r"\1/\2"),
    (re.compile(r"([0-9]+)\s*\\over\s*([0-9]+)"), r"\1/\2"),
    (re.compile(r"\\[!,]|\{,\}|\\(?:left|right|displaystyle)(?![A-Za-z])|\\[()\[\]]"), ""),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\\(?:times|cdot)\b"), "×"),
    (re.compile(r"\\(?:div)\b"), "÷"),
    (re.compile(r"(?<![\w$])\$(?=-?[0-9.,]+\$)"), ""),  # $18$ is mathematics, $18 is money
)


def to_plain_digits(text: str) -> str:
    """The text with ASCII digits, signs and fractions, and without LaTeX around numbers."""
    if not text.isascii():
        text = _VULGAR.sub(" ", text)
        text = _VULGAR_FRACTION.sub(lambda m: unicodedata.normalize("NFKC", m[0]), text)
        text = _SUPERSCRIPT.sub(lambda m: "^" + "".join(map(_SUPERSCRIPTS.get, m[0])), text)  # type: ignore[arg-type] # every match is a key
        text = text.translate(_folded())
    text = _TIMES.sub(" × ", text)
    if "\\" in text or "{," in text:
        for pattern, instead in _LATEX:
            text = pattern.sub(instead, text)
    return text


@cache
def _folded() -> Mapping[int, str]:
    """Replacements of single characters."""
    return {
        **ascii_forms(),
        **dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2212, 0xFE63), "-"),
        0x3000: " ",
        0x2044: "/",
        0x066B: ".",
        0x066C: ",",
        0x066A: "%",
    }


_CURRENCY = r"(?:US\$|HK\$|[AC]\$|[$€£¥₹₩]|(?:USD|EUR|GBP|CNY|RMB|JPY|HKD|Rs\.?|人民币)\ ?)"
_NUMBER = re.compile(
    rf"""
    (?<![A-Za-z0-9^\\]) (?<![A-Za-z]_) (?<!\^\{{) (?<!\^-) (?<!\^\{{-)
    (?: (?P<skip> (?![0-9]{{1,3}}(?:\.[0-9]{{3}}){{2}}(?![.0-9]*\.[0-9]{{1,2}}(?![0-9]))(?:\.[0-9]{{3}})*(?![0-9])) [0-9]+(?:\.[0-9]+){{2,}} | [0-9]{{4}}[-/][0-9]{{1,2}}[-/][0-9]{{1,2}}
          | [0-9]{{1,2}}/[0-9]{{1,2}}/[0-9]{{2,4}} | [0-9]{{1,2}}:[0-9]{{2}}(?::[0-9]{{2}})? ) (?!,?[0-9])
      | (?:{_CURRENCY} (?P<inner>-)? )?
        (?: (?P<european> [0-9]{{1,3}}(?:\.[0-9]{{3}})+,[0-9]+ | [0-9]{{1,3}}(?:\.[0-9]{{3}}){{2,}} ) (?![0-9])
          | (?<![0-9],)(?P<comma> [0-9]+,(?:[0-9]{{1,2}}|[0-9]{{4,}}|(?<=\b0,)[0-9]{{3}}) ) (?![0-9]|,[0-9])
          | (?: (?P<and>[0-9]+)\  )? (?P<above>[0-9]+)/(?P<below>[0-9]+) (?![0-9/])
          | (?P<whole> [0-9]{{1,3}}(?:[,'’{_SPACES}][0-9]{{3}})+(?![0-9])
                     | [0-9]{{1,2}}(?:,[0-9]{{2}})+,[0-9]{{3}}(?![0-9])
                     | [0-9]{{1,3}}(?:\ [0-9]{{3}})*?\ 0[0-9]{{2}}(?:\ [0-9]{{3}})*(?![0-9]) | [0-9]+ )
            (?P<decimals>\.[0-9]+)?
          | (?<![0-9.])(?P<bare>\.[0-9]+) )
        (?: [eE](?P<e>[+-]?[0-9]{{1,3}})(?![0-9A-Za-z])
          | \ ?[×x*]\ ?10\^\{{?(?P<ten>-?[0-9]{{1,3}})\}}?
          | \^(?:\{{(?P<braced>-?[0-9]{{1,3}})\}}|(?P<power>-?[0-9]{{1,3}}))(?![0-9^]) )?
        (?: \ ?(?P<magnitude>thousand|million|billion|trillion)\b | (?P<suffix>(?-i:[kKMB]|bn|mn|\ (?:[kM]|bn|mn)))(?![A-Za-z0-9]) )?
        (?P<percent> \ ?(?:%|percent\b|per\ cent\b|pct\b) )?
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_MAGNITUDES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "k": 10**3, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9}  # fmt: skip
_GROUPING = {ord(c): None for c in f" ,'’{_SPACES}"}
# 3千米 and 5千克 are kilometres and kilograms, 2百分 is not a number.
_UNIT = re.compile(r" ?(?P<unit>[百千十]?[万萬亿億]|[百千])(?![米克瓦卡赫帕伏分])(?P<rest>[0-9]+(?:\.[0-9]+)?)?")  # fmt: skip
_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_LONGEST = 60
"""Digits; a longer number is not an answer, and arithmetic on it would be slow."""


def find_numbers(text: str) -> list[Number]:
    """The numbers that are written in digits, in order; `text` is in plain form."""
    found = []
    at = 0
    while match := _NUMBER.search(text, at):
        number = _read(match, text)
        at = match.end() if number is None else number.end
        if number is not None:
            found.append(number)
    return found


def find_number_words(text: str) -> list[Number]:
    """The English number words, in order; `text` is in plain form. `one` of `one of them` is included."""
    return [
        Number(lowest(words.value), words.percent, match.start(), match.end())
        for match in NUMBER_WORDS.finditer(text)
        if (words := read_words(match)) is not None
    ]


def find_numerals(text: str) -> list[Number]:
    """The Chinese numerals, in order; `text` is in plain form. 一 in 一起 is included: the caller must filter."""
    found = []
    for match in PATTERN.finditer(text):
        numeral = read_numeral(match)
        if numeral is not None:
            found.append(Number(lowest(numeral.value), numeral.percent, match.start(), match.end()))
    return found


def _read(match: re.Match[str], text: str) -> Number | None:
    if match["skip"] or len(match[0]) > _LONGEST:
        return None
    sign = -1 if match["inner"] else _sign(text, match.start())
    value = _value(match)
    if sign is None or value is None:
        return None
    end = match.end()
    if not match["percent"] and not match["magnitude"] and not match["suffix"]:
        value, end = _with_units(value, text, end)
    return Number(lowest(sign * value), match["percent"] is not None, match.start(), end)


def number_at(text: str, start: int) -> Number | None:
    """The number that begins right at `start`, without a sign before it; `text` is in plain form."""
    match = _NUMBER.match(text[start : start + 2 * _LONGEST])
    number = _read(match, match.string) if match else None
    if number is None:
        return None
    return Number(number.value, number.percent, start, start + number.end)


def _sign(text: str, start: int) -> int | None:
    """The sign of the number at `start`; None where the hyphen before it joins both to a name: GPT-4."""
    if start == 0 or text[start - 1] != "-":
        return 1
    before = text[max(0, start - 20) : start - 1]
    if before[-1:].isascii() and before[-1:].isalpha():
        return None
    # A hyphen after a number is a minus between two, or a range.
    is_between = before.rstrip(" ")[-1:] in tuple("0123456789)]}%-")
    return 1 if is_between else -1


def _value(match: re.Match[str]) -> Value | None:
    if match["below"]:
        below = int(match["below"])
        return None if below == 0 else int(match["and"] or 0) + Fraction(int(match["above"]), below)
    value = _decimal(match)
    if match["power"] or match["braced"]:
        exponent = int(match["power"] or match["braced"])
        if abs(exponent) * len(match[0]) > 1000 or (value == 0 and exponent <= 0):
            return None
        return Fraction(value) ** exponent
    exponent = int(match["e"] or match["ten"] or 0)
    if exponent:
        value = value * Fraction(10) ** exponent
    if match["magnitude"] or match["suffix"]:
        value = value * _MAGNITUDES[(match["magnitude"] or match["suffix"]).strip().lower()]
    return value


def _decimal(match: re.Match[str]) -> Value:
    if match["european"] or match["comma"]:
        written = (match["european"] or match["comma"]).replace(".", "")
        whole, _, decimals = written.partition(",")
    else:
        whole = (match["whole"] or "0").translate(_GROUPING)
        decimals = (match["decimals"] or match["bare"] or ".")[1:]
    decimals = decimals.rstrip("0")
    if not decimals:
        return int(whole)
    return Fraction(int(whole + decimals), 10 ** len(decimals))


def _with_units(value: Value, text: str, end: int) -> tuple[Value, int]:
    """The value times the Chinese units behind it: 1.5万, 3万5千, 1亿2000万."""
    total: Value = 0
    rest: Value = value
    unit = 0
    while match := _UNIT.match(text, end):
        unit = 1
        for c in match["unit"]:
            unit *= _UNITS[c]
        total, rest, end = total + rest * unit, 0, match.end()
        if match["rest"] is None:
            break
        if len(match["rest"]) > _LONGEST:
            return total, match.end("unit")
        rest = Fraction(match["rest"])
        if len(match["rest"]) == 1 and not _UNIT.match(text, end):
            rest *= unit // 10  # 3万5 is 35000
    return total + rest, end


def lowest(value: Value) -> Value:
    """A whole fraction as an integer."""
    return value if isinstance(value, int) or value.denominator != 1 else value.numerator


def format_number(number: Number) -> str:
    """The one way to write a number: `18`, `-0.5`, `1/3`, `50%`."""
    value = number.value
    digits = str(value) if isinstance(value, int) else _written(value)
    return f"{digits}%" if number.percent else digits


def _written(value: Fraction) -> str:
    rest, places = value.denominator, 0
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest, count = rest // prime, count + 1
        places = max(places, count)
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"
