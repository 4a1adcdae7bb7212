"""Patterns and checks for each kind of personal data.

Patterns start only at the start of a run of characters, and their repetitions are bounded or possessive: their time is
linear in the length of the text.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import Literal, get_args

from batchgen.privacy.checksums import (
    IBAN_LENGTHS,
    is_card,
    is_iban,
    is_nhs,
    is_resident_id,
    is_ssn,
)

PiiKind = Literal[
    "cn_resident_id", "iban", "credit_card", "uk_nhs", "us_ssn", "email", "ip", "phone"
]
PII_KINDS: tuple[PiiKind, ...] = get_args(PiiKind)
"""All kinds, the most reliable first: of two kinds that match the same characters, the first wins."""


@dataclass(frozen=True, slots=True)
class Recognizer:
    """A notation of a kind of personal data.

    Attributes:
        pattern: the group `it` is the match.
        check: whether the text of a match is valid.
    """

    kind: PiiKind
    pattern: re.Pattern[str]
    check: Callable[[str], bool]

    def matches(self, text: str) -> Iterator[tuple[int, int]]:
        """Start and end of each valid match in a normalized text."""
        at = 0
        while match := self.pattern.search(text, at):
            start, end = match.span("it")
            if self.check(match["it"]):
                yield start, end
                at = end
            else:
                # "12 4111 1111 1111 1111": a valid match may start at the next group.
                at = start + 1


def _bare(check: Callable[[str], bool]) -> Callable[[str], bool]:
    """The check, on the text without separators."""
    return lambda text: check(_SEPARATORS.sub("", text))


def _digits(least: int, most: int) -> Callable[[str], bool]:
    return lambda text: least <= sum(map(str.isdigit, text)) <= most


def _is_ipv6(text: str) -> bool:
    # `1::2` is nearly always a slice in Python, `add::bad` a name in C++.
    if not re.search(r"[0-9]", text) or not re.search(r"[0-9A-Fa-f]{3}", text):
        return False
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True


def _any(_text: str) -> bool:
    return True


_SEPARATORS = re.compile("[ ._/-]+")
_S = r"[ ._/-]{0,2}"
"""Separator between groups of digits of a card number."""
_START = r"(?<![0-9A-Za-z])(?<![0-9]\.)"
"""Not inside a word or a number. Chinese characters may precede: Chinese has no spaces between words."""
_END = r"(?![0-9A-Za-z])"
_LAST_DIGIT = r"(?![0-9])"
_LETTER = r"A-Za-z\u00c0-\u024f\u0370-\u052f"
_NAME = rf"0-9{_LETTER}"
_LOCAL = rf"{_NAME}+_%&'-"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"


def _spread(*characters: str) -> str:
    """A pattern of characters, with an optional space or dash between any two."""
    return "[ -]?".join(characters).replace("~", "[ -]?")


_RESIDENT_ID = _spread(
    "[1-8]",
    *["[0-9]"] * 5,
    "(?:1~[89]|2~0)~[0-9]~[0-9]",
    "(?:0~[1-9]|1~[0-2])",
    "(?:0~[1-9]|[12]~[0-9]|3~[01])",
    *["[0-9]"] * 3,
    "[0-9Xx]",
)
_IBAN = "|".join(
    rf"(?:{'|'.join(c for c, n in IBAN_LENGTHS.items() if n == length)})"
    rf"[ -]?[0-9][ -]?[0-9](?:[ -]?[0-9A-Z]){{{length - 4}}}"
    for length in sorted(set(IBAN_LENGTHS.values()))
)

_FORMS: tuple[tuple[PiiKind, str, Callable[[str], bool]], ...] = (
    ("cn_resident_id", rf"{_START}(?P<it>{_RESIDENT_ID}){_END}", _bare(is_resident_id)),
    ("iban", rf"(?ai:{_START}(?=[A-Z]{{2}}[ -]?[0-9])(?P<it>{_IBAN}){_END})", _bare(is_iban)),
    ("credit_card", rf"{_START}(?P<it>[2-6][0-9]{{12,18}}){_END}", is_card),
    ("credit_card", rf"{_START}(?P<it>[2-6][0-9]{{3}}(?:{_S}[0-9]{{4}}){{3}}){_END}", _bare(is_card)),
    ("credit_card", rf"{_START}(?P<it>[2-6][0-9]{{3}}(?:{_S}[0-9]{{4}}){{3}}{_S}[0-9]{{1,3}}){_END}", _bare(is_card)),
    ("credit_card", rf"{_START}(?P<it>3[0-9]{{3}}{_S}[0-9]{{6}}{_S}[0-9]{{4,5}}){_END}", _bare(is_card)),
    ("credit_card", rf"{_START}(?P<it>6[0-9]{{5}}{_S}[0-9]{{13}}){_END}", _bare(is_card)),
    # Single digits, as in transcribed speech.
    ("credit_card", rf"{_START}(?<![0-9][ -])(?P<it>[2-6](?:[ -][0-9]){{12,18}}){_END}", _bare(is_card)),
    ("uk_nhs", rf"{_START}(?P<it>[0-9]{{3}}[ -][0-9]{{3}}[ -][0-9]{{4}}){_END}", _bare(is_nhs)),
    # Without spaces only the ranges of England, Wales, Northern Ireland and test numbers, to limit false matches.
    ("uk_nhs", rf"{_START}(?P<it>[3-79][0-9]{{9}}){_END}", is_nhs),
    ("us_ssn", rf"{_START}(?<![0-9]-)(?P<it>[0-9]{{3}}(?P<s>[ -])[0-9]{{2}}(?P=s)[0-9]{{4}}){_END}", _bare(is_ssn)),
    ("us_ssn", rf"(?ai:\b(?:ssn|social security)\b[^0-9\n]{{0,20}})(?P<it>[0-9]{{9}}){_END}", is_ssn),
    ("email", rf"(?:(?<![.{_LOCAL}])|(?<=\.\.))[.+_%&'-]*+(?P<it>[{_LOCAL}]++(?:\.[{_LOCAL}]++)*+@[{_NAME}-]++(?:\.[{_NAME}-]++)*\.[{_LETTER}]{{2,}})", _any),
    ("ip", rf"{_START}(?P<it>(?:{_OCTET}\.){{3}}{_OCTET})(?![0-9A-Za-z])(?!\.[0-9])", _any),
    ("ip", rf"(?<![0-9A-Za-z:.])(?P<it>(?:[0-9A-Fa-f]{{0,4}}:){{2,7}}(?:(?:{_OCTET}\.){{3}}{_OCTET}|[0-9A-Fa-f]{{1,4}}|(?<=::)))(?!:?[0-9A-Za-z])", _is_ipv6),
    # E.164: at most 15 digits, including the country code.
    ("phone", rf"(?<![0-9A-Za-z+])(?P<it>\+ ?\(?[0-9](?:[ .()/-]{{0,3}}[0-9]){{7,15}}){_LAST_DIGIT}", _digits(8, 16)),
    ("phone", rf"{_START}(?P<it>00 ?[1-9](?:[ .()/-]{{0,3}}[0-9]){{9,14}}){_LAST_DIGIT}", _any),
    # Chinese mobile numbers: eleven digits, often as 3-4-4.
    ("phone", rf"{_START}(?P<it>(?:86[ -]?)?1[3-9][0-9][ .-]?[0-9]{{4}}[ .-]?[0-9]{{4}}){_LAST_DIGIT}", _any),
    ("phone", rf"{_START}(?<![0-9][ -])(?P<it>1[ -][3-9](?:[ -][0-9]){{9}})(?![ -]?[0-9])", _any),
    # North America: 3-3-4; area and exchange never begin with 0 or 1.
    ("phone", rf"{_START}(?P<it>(?:1[ .-])?(?:\([2-9][0-9]{{2}}\)[ -]?|[2-9][0-9]{{2}}[ .-])[2-9][0-9]{{2}}[ .-][0-9]{{4}}){_LAST_DIGIT}", _any),
    # Other national numbers: a trunk 0, the area, the number: 020 7946 0958, 0755-12345678.
    ("phone", rf"{_START}(?P<it>(?:\(0[1-9][0-9]{{1,4}}\)[ -]?|0[1-9][0-9]{{1,4}}[ /-])[0-9]{{3,8}}(?:[ -][0-9]{{2,4}}){{0,2}}){_LAST_DIGIT}", _digits(9, 12)),
)  # fmt: skip

RECOGNIZERS = tuple(Recognizer(kind, re.compile(form), check) for kind, form, check in _FORMS)
