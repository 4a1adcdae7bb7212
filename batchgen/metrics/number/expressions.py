r"""Exact values of arithmetic as answers have it: `7 / 2`, `\frac{-1}{4}`, `10^{-3}`, `\sqrt{16}`, `3 + 4 = 7`, `2(3+4)`.

An expression is read as a whole or not at all: `3\sqrt{2}`, `3\pi`, `3x + 2`, `(3, 4)` and `[2, 5)` have no value here,
never that of a part. Texts are in the plain form of `reading.py`.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt

from batchgen.metrics.number.reading import Number, Value, lowest, number_at

_DEEPEST = 20
_LONGEST = 400
_BITS = 4000
_SPACE = re.compile(r"(?:\s|\\[,;: ]|\\q?quad\b|~)*")
_HEAD = re.compile(
    r"(?:[\s*_`\"'“‘:：$~≈]|\\\(|\\\[|\b(?:exactly|about|around|approximately|roughly|only|just|simply|that|equal to|a total of)\s"
    r"|一共|总共|共|约|大约|是|为|等于|\\(?:approx|sim)\b)*",
    re.IGNORECASE,
)
_VARIABLE = re.compile(
    r"(?:\\?[A-Za-z]\w{0,20}(?:\s[A-Za-z]\w{0,20}){0,3}|[A-Za-z]_\{?\w{1,9}\}?|[A-Za-z]\([A-Za-z]\))\s*(?:=|≈|\\approx)\s*(?!=)"
)
_ALGEBRA = re.compile(
    r"-?\s*(?:[B-HJ-Zb-z](?![A-Za-z'’.])\s*(?:[-+*/^×÷(<>≤≥≠]|\\(?:leq?|geq?|neq?)\b)"
    r"|\\(?:sqrt|pi|infty|frac|sin|cos|tan|log|ln|left|begin|alpha|theta|leq?|geq?|neq?|pm)\b|[√π∞≤≥≠±<>|]|\([^)]*,"
    r"|(?:log|ln|sin|cos|tan|exp|max|min|gcd|lcm|floor|ceil|abs)\s?[(0-9])"
)
_NOT = re.compile(r"[\[(]?(?:not\b|不是|并非)", re.IGNORECASE)
_MINUS = re.compile(r"(?:minus|negative)\s+(?=\$?\.?[0-9])", re.IGNORECASE)
_FUNCTIONS = re.compile(r"\\[dt]?frac\b|\\sqrt\b|√|(?<![A-Za-z])sqrt(?=\()")
_MIXED = re.compile(r"\s?\\[dt]?frac\b")
_EQUALS = re.compile(r"\s*(?:=|≈|\\approx\b|\\equiv\b)\s*")
_CONTINUES = re.compile(
    r"\s*(?:\^(?!\{?\s*\\circ)|_|[-+*/×÷·]\s*(?=[\w\\(√.$])|\\(?!text\b|mathrm\b|circ\b|degree\b|quad\b|[,;:!$%)\]])[A-Za-z]+|[√π∞±<>≤≥≠]|\s?\*\*[0-9]|x[0-9]|:\s?[0-9]|[(\[](?=[^)\]]*,))"
    r"|[a-zA-Z](?![A-Za-z])(?<![mgshlLNJWVACFtdKGBTk'’])"
)
_UNIT = re.compile(
    r"(?:\^\{?\s*\\circ\s*\}?|°|\\circ|\\degree|\s|\\[,;:! ]|\\q?quad\b|[*_`$\"'”’(){}\]~]|\\[)\]]|[.,;:。，](?!\d)|/(?=\s?[A-Za-z])"
    r"|(?:[A-Za-zµμΩ\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff\u0600-\u06ff\u0900-\u097f]{2,}|[mgshlLNJWVACFtdKGBTk])(?![A-Za-z])\.?(?:\s?\^\{?-?[0-9]\}?|[0-9²³](?!\w))?"
    r"|[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]+)*"
)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An answer that is more than a number, a unit and a currency, and has no value here."""


class _NoValueError(ValueError):
    """The text is not arithmetic, or its value is not exact or too large."""


def evaluate(text: str, *, strict: bool) -> Number | Unreadable | None:
    """The value of the expression at the start of a text; None if the text begins with words.

    strict: nothing but a unit may follow it.
    """
    if len(text) > _LONGEST:
        text = text[:_LONGEST]
    start = _HEAD.match(text).end()  # type: ignore[union-attr] # it matches the empty text as well
    named = _VARIABLE.match(text, start)
    if named:
        start = named.end()
    if _NOT.match(text, start):
        return Unreadable()
    minus = _MINUS.match(text, start)
    start = minus.end() if minus else start
    try:
        number, end = _sides(text, start)
    except _NoValueError:
        return Unreadable() if strict or _is_mathematics(text, start) else None
    if minus:
        number = replace(number, value=-number.value)
    if _CONTINUES.match(text, end):
        return Unreadable()
    if strict and _UNIT.match(text, end).end() < len(text):  # type: ignore[union-attr] # it matches the empty text
        return Unreadable()
    return number


def _is_mathematics(text: str, start: int) -> bool:
    head = text[start : start + 60]
    return (
        _ALGEBRA.match(head) is not None
        or re.match(r"[-+]?\s*[(\[{]?\s*[-+]?\$?\.?[0-9]", head) is not None
    )


def _sides(text: str, start: int) -> tuple[Number, int]:
    """The value of an expression or a chain of equations: a number on its own, else the last side."""
    parser = _Parser(text, start)
    sides = [parser.number()]
    plain = [parser.is_plain]
    end = parser.at
    while equals := _EQUALS.match(text, end):
        parser = _Parser(text, equals.end())
        try:
            sides.append(parser.number())
        except _NoValueError:
            break
        plain.append(parser.is_plain)
        end = parser.at
    alone = [side for side, is_plain in zip(sides, plain, strict=True) if is_plain]
    return (alone[-1] if alone else sides[-1]), end


class _Parser:
    """Recursive descent over `+ - × /`, powers, roots, fractions and brackets."""

    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at
        self._start = at
        self._depth = 0
        self._operations = 0
        self._percent = False

    @property
    def is_plain(self) -> bool:
        """Whether the expression is a number as it is written."""
        return self._operations == 0

    def number(self) -> Number:
        value = self._sum()
        if self._percent and self._operations:
            raise _NoValueError
        return Number(lowest(value), self._percent, self._start, self.at)

    def _sum(self) -> Value:
        value = self._product()
        while sign := self._operator("+-"):
            right = self._product()
            value = _bounded(value + right if sign == "+" else value - right)
        return value

    def _product(self) -> Value:
        value = self._signed()
        while True:
            if sign := self._operator("*/×÷·"):
                right = self._signed()
                value = _bounded(
                    Fraction(value) / _divisor(right) if sign in "/÷" else value * right
                )
            elif _FUNCTIONS.match(self.text, self.at) or self._begins_factor():
                self._operations += 1
                value = _bounded(value * self._power())
            else:
                return value

    def _begins_factor(self) -> bool:
        return re.match(r"\((?=[^(),]*\))(?=[-\s0-9+*/^.]+\))", self.text[self.at :]) is not None

    def _signed(self) -> Value:
        self._spaces()
        sign = 1
        while self.text[self.at : self.at + 1] in ("-", "+") and self.text[self.at :]:
            sign = -sign if self.text[self.at] == "-" else sign
            self.at += 1
            self._spaces()
        return sign * self._power()

    def _power(self) -> Value:
        base = self._base()
        self._spaces(only_before="^")
        if self.text[self.at : self.at + 1] != "^":
            return base
        if re.match(r"\^\{?\s*\\circ", self.text[self.at :]):
            return base
        self.at += 1
        self._operations += 1
        exponent = (
            self._group() if self.text[self.at : self.at + 1] in ("{", "(") else self._digit()
        )
        return _raised(base, exponent)

    def _base(self) -> Value:
        self._spaces()
        function = _FUNCTIONS.match(self.text, self.at)
        if function:
            self.at = function.end()
            self._operations += 1
            return self._fraction() if "frac" in function[0] else self._root()
        if self.text[self.at : self.at + 1] in ("(", "{", "["):
            return self._group()
        return self._literal()

    def _literal(self) -> Value:
        number = number_at(self.text, self.at)
        if number is None or (
            self._depth and re.fullmatch(r"\$?[0-9]+,[0-9]+", self.text[self.at : number.end])
        ):
            raise _NoValueError
        self.at = number.end
        self._percent = self._percent or number.percent
        fraction = _MIXED.match(self.text, self.at)
        if fraction and isinstance(number.value, int):  # 3\frac{1}{2} is a mixed number
            self.at = fraction.end()
            self._operations += 1
            return number.value + self._fraction()
        return number.value

    def _group(self) -> Value:
        opening = self.text[self.at]
        self.at += 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _NoValueError
        value = self._sum()
        self._spaces()
        if self.text[self.at : self.at + 1] != {"(": ")", "{": "}", "[": "]"}[opening]:
            raise _NoValueError
        self.at += 1
        self._depth -= 1
        return value

    def _argument(self) -> Value:
        self._spaces()
        return self._group() if self.text[self.at : self.at + 1] in ("{", "(") else self._digit()

    def _digit(self) -> Value:
        match = re.match(r"-?[0-9]", self.text[self.at :])
        if match is None:
            raise _NoValueError
        self.at += match.end()
        return int(match[0])

    def _fraction(self) -> Value:
        above = self._argument()
        return Fraction(above) / _divisor(self._argument())

    def _root(self) -> Value:
        degree = self._group() if self.text[self.at : self.at + 1] == "[" else 2
        grouped = self.text[self.at : self.at + 1] in ("{", "(")
        of = self._group() if grouped else self._literal()
        return _exact_root(Fraction(of), degree)

    def _operator(self, signs: str) -> str:
        match = re.match(
            rf"\s*([{re.escape(signs)}])(?!\*)\s*(?=[\w\\(\[{{√.$+-])",
            self.text[self.at : self.at + 20],
        )
        if match is None:
            return ""
        if match[1] == "-" and self.is_plain and re.match(r"-[0-9]", self.text[self.at :]):
            raise _NoValueError  # 5-6 is a range
        self.at += match.end()
        self._operations += 1
        return match[1]

    def _spaces(self, only_before: str = "") -> None:
        end = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr] # it matches the empty text as well
        if not only_before or self.text[end : end + 1] == only_before:
            self.at = end


def _divisor(value: Value) -> Value:
    if value == 0:
        raise _NoValueError
    return value


def _raised(base: Value, exponent: Value) -> Value:
    power = Fraction(exponent)
    if power.denominator != 1:
        raise _NoValueError
    size = max(Fraction(base).numerator.bit_length(), Fraction(base).denominator.bit_length())
    if abs(power.numerator) * size > _BITS or (base == 0 and power <= 0):
        raise _NoValueError
    return Fraction(base) ** power.numerator


def _exact_root(value: Fraction, degree: Value) -> Value:
    """The root of a fraction, if it is a fraction."""
    if value < 0 or degree not in (2, 3):
        raise _NoValueError
    parts = []
    for part in (value.numerator, value.denominator):
        root = isqrt(part) if degree == 2 else round(part ** (1 / 3)) if part < 2**50 else -1
        if root ** int(degree) != part:
            raise _NoValueError
        parts.append(root)
    return Fraction(*parts)


def _bounded(value: Value) -> Value:
    if (
        max(Fraction(value).numerator.bit_length(), Fraction(value).denominator.bit_length())
        > _BITS
    ):
        raise _NoValueError
    return value
