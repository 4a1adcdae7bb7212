"""Chinese numerals: 十八, 一百零五, 一万五, 二〇二四, 三点五, 三分之二, 百分之五十, 负三, and those of cheques (壹佰)."""

import re
from dataclasses import dataclass
from fractions import Fraction

_DIGITS = {c: n for n, cs in enumerate(("〇零○", "一壹", "二贰两兩貳", "三叁參", "四肆", "五伍", "六陆陸", "七柒", "八捌", "九玖")) for c in cs}  # fmt: skip
_TENS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_PLURAL_TENS = {"廿": "二十", "卅": "三十"}

_C = "".join((*_DIGITS, *_TENS, *_MYRIADS, *_PLURAL_TENS))
_PLAIN = rf"[{_C}]+(?:[点點][{''.join(_DIGITS)}]+)?"
PATTERN = re.compile(
    rf"(?P<minus>负|負)?(?:(?P<percent>百分之)(?P<hundredths>{_PLAIN})"
    rf"|(?:(?P<and>{_PLAIN})又)?(?P<below>[{_C}]+)分之(?P<above>[{_C}]+)"
    rf"|(?P<plain>{_PLAIN}))"
)


_LONGEST = 40


@dataclass(frozen=True, slots=True)
class Numeral:
    """The value of a numeral; 百分之五十 is 50 with `percent`."""

    value: Fraction
    percent: bool


def read_numeral(match: re.Match[str]) -> Numeral | None:
    """The value of a match of `PATTERN`; None for characters that are not a number, such as 百万分."""
    if len(match[0]) > _LONGEST:
        return None
    value = _fraction(match) if match["below"] else _plain(match["plain"] or match["hundredths"])
    if value is None:
        return None
    return Numeral(-value if match["minus"] else value, percent=match["percent"] is not None)


def _fraction(match: re.Match[str]) -> Fraction | None:
    below, above = _integer(match["below"]), _integer(match["above"])
    whole = _plain(match["and"]) if match["and"] else Fraction(0)
    if not below or above is None or whole is None:
        return None
    return whole + Fraction(above, below)


def _plain(text: str) -> Fraction | None:
    whole, _, decimals = text.replace("點", "点").partition("点")
    value = _integer(whole)
    if value is None:
        return None
    digits = "".join(str(_DIGITS[c]) for c in decimals)
    return Fraction(int(f"{value}{digits}"), 10 ** len(digits))


def _integer(text: str) -> int | None:
    """The value of a whole number: digit by digit if there is no unit, else by units."""
    for short, long in _PLURAL_TENS.items():
        text = text.replace(short, long)
    if all(c in _DIGITS for c in text):
        return int("".join(str(_DIGITS[c]) for c in text))
    return _by_units(text)


def _by_units(text: str) -> int | None:
    """十八 is 18, 一百零五 is 105, 一万五 is 15000; a unit with nothing before it counts once only where it is 十."""
    total = section = 0
    digit: int | None = None
    last_unit = 1
    for c in text:
        if c in _DIGITS:
            if digit:  # two digits in a row, with units elsewhere: not a number
                return None
            digit = _DIGITS[c]
            last_unit = 1 if digit == 0 else last_unit
        elif c in _TENS:
            if digit is None and (c not in "十拾" or section % 100):
                return None
            section += (1 if digit is None else digit) * _TENS[c]
            digit, last_unit = None, _TENS[c]
        else:
            section += digit or 0
            if not section and not total:
                return None
            # 一万亿: a larger unit multiplies all that precedes it.
            total, section = _with_myriad(total, section, _MYRIADS[c])
            digit, last_unit = None, _MYRIADS[c]
    # 三百二 is 320, 一万五 is 15000; 一百零五 is 105.
    tail = (digit or 0) * (last_unit // 10 if last_unit >= 100 else 1)
    return total + section + tail


def _with_myriad(total: int, section: int, unit: int) -> tuple[int, int]:
    if total and total < unit:
        return (total + section) * unit, 0
    return total + section * unit, 0
