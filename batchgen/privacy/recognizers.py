"""How each kind of personal data is written, and what makes a number one of its kind.

Patterns start where a run of characters starts and repeat a bounded number of times, or never give back what they
took: the time they need grows with the length of the text, whatever it says.
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
"""A kind of personal data."""

PII_KINDS: tuple[PiiKind, ...] = get_args(PiiKind)
"""All kinds, the surest first: of two that claim the same characters, the first is believed."""


@dataclass(frozen=True, slots=True)
class Recognizer:
    """One way to write one kind.

    Attributes:
        pattern: what it looks like; the group `it` is the finding.
        check: whether what looks like one is one; given the finding as it is written.
    """

    kind: PiiKind
    pattern: re.Pattern[str]
    check: Callable[[str], bool]

    def places(self, text: str) -> Iterator[tuple[int, int]]:
        """Start and end of each in a text in plain form."""
        at = 0
        while match := self.pattern.search(text, at):
            start, end = match.span("it")
            if self.check(match["it"]):
                yield start, end
                at = end
            else:
                # "12 4111 1111 1111 1111": what begins a group later may be one.
                at = start + 1


def _bare(check: Callable[[str], bool]) -> Callable[[str], bool]:
    """The check, without what separates groups."""
    return lambda found: check(_SEPARATORS.sub("", found))


def _digits(least: int, most: int) -> Callable[[str], bool]:
    return lambda found: least <= sum(map(str.isdigit, found)) <= most


def _is_ipv6(found: str) -> bool:
    # `1::2` is a slice of Python, `add::bad` a name of C++, far more often than an address.
    if not re.search(r"[0-9]", found) or not re.search(r"[0-9A-Fa-f]{3}", found):
        return False
    try:
        IPv6Address(found)
    except AddressValueError:
        return False
    return True


def _any(_found: str) -> bool:
    return True


_SEPARATORS = re.compile("[ ._/-]+")
_S = r"[ ._/-]{0,2}"
"""What may stand between groups of a card's digits."""
_START = r"(?<![0-9A-Za-z])(?<![0-9]\.)"
"""Not within a word, a number or behind its decimal point. Chinese may touch: it has no spaces between words."""
_END = r"(?![0-9A-Za-z])"
_LAST_DIGIT = r"(?![0-9])"
_LETTER = r"A-Za-z\u00c0-\u024f\u0370-\u052f"
_NAME = rf"0-9{_LETTER}"
_LOCAL = rf"{_NAME}+_%&'-"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"


def _spread(*characters: str) -> str:
    """Characters with a space or dash between any two of them, or none."""
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
    # Digit by digit, as speech is written down.
    ("credit_card", rf"{_START}(?<![0-9][ -])(?P<it>[2-6](?:[ -][0-9]){{12,18}}){_END}", _bare(is_card)),
    ("uk_nhs", rf"{_START}(?P<it>[0-9]{{3}}[ -][0-9]{{3}}[ -][0-9]{{4}}){_END}", _bare(is_nhs)),
    # In one piece only the ranges of England, Wales and Northern Ireland, and that of tests: others are too often something else.
    ("uk_nhs", rf"{_START}(?P<it>[3-79][0-9]{{9}}){_END}", is_nhs),
    ("us_ssn", rf"{_START}(?<![0-9]-)(?P<it>[0-9]{{3}}(?P<s>[ -])[0-9]{{2}}(?P=s)[0-9]{{4}}){_END}", _bare(is_ssn)),
    ("us_ssn", rf"(?ai:\b(?:ssn|social security)\b[^0-9\n]{{0,20}})(?P<it>[0-9]{{9}}){_END}", is_ssn),
    ("email", rf"(?:(?<![.{_LOCAL}])|(?<=\.\.))[.+_%&'-]*+(?P<it>[{_LOCAL}]++(?:\.[{_LOCAL}]++)*+@[{_NAME}-]++(?:\.[{_NAME}-]++)*\.[{_LETTER}]{{2,}})", _any),
    ("ip", rf"{_START}(?P<it>(?:{_OCTET}\.){{3}}{_OCTET})(?![0-9A-Za-z])(?!\.[0-9])", _any),
    ("ip", rf"(?<![0-9A-Za-z:.])(?P<it>(?:[0-9A-Fa-f]{{0,4}}:){{2,7}}(?:(?:{_OCTET}\.){{3}}{_OCTET}|[0-9A-Fa-f]{{1,4}}|(?<=::)))(?!:?[0-9A-Za-z])", _is_ipv6),
    # E.164: at most 15 digits, the country's included.
    ("phone", rf"(?<![0-9A-Za-z+])(?P<it>\+ ?\(?[0-9](?:[ .()/-]{{0,3}}[0-9]){{7,15}}){_LAST_DIGIT}", _digits(8, 16)),
    ("phone", rf"{_START}(?P<it>00 ?[1-9](?:[ .()/-]{{0,3}}[0-9]){{9,14}}){_LAST_DIGIT}", _any),
    # Chinese mobile numbers: eleven digits, often as 3-4-4.
    ("phone", rf"{_START}(?P<it>(?:86[ -]?)?1[3-9][0-9][ .-]?[0-9]{{4}}[ .-]?[0-9]{{4}}){_LAST_DIGIT}", _any),
    ("phone", rf"{_START}(?<![0-9][ -])(?P<it>1[ -][3-9](?:[ -][0-9]){{9}})(?![ -]?[0-9])", _any),
    # North America: 3-3-4; area and exchange never begin with 0 or 1.
    ("phone", rf"{_START}(?P<it>(?:1[ .-])?(?:\([2-9][0-9]{{2}}\)[ -]?|[2-9][0-9]{{2}}[ .-])[2-9][0-9]{{2}}[ .-][0-9]{{4}}){_LAST_DIGIT}", _any),
    # Elsewhere, within the country: a trunk 0, the area, the number: 020 7946 0958, 0755-12345678.
    ("phone", rf"{_START}(?P<it>(?:\(0[1-9][0-9]{{1,4}}\)[ -]?|0[1-9][0-9]{{1,4}}[ /-])[0-9]{{3,8}}(?:[ -][0-9]{{2,4}}){{0,2}}){_LAST_DIGIT}", _digits(9, 12)),
)  # fmt: skip

RECOGNIZERS = tuple(Recognizer(kind, re.compile(form), check) for kind, form, check in _FORMS)
