"""Checks of identity numbers: check digits, lengths and ranges.

Each function takes ASCII characters without spaces and separators.
"""

from collections.abc import Collection, Mapping
from datetime import date


def is_card(digits: str) -> bool:
    """A payment card: a known issuer's first digits, its lengths, and the Luhn digit (ISO/IEC 7812-1, annex B)."""
    length = len(digits)
    return luhn(digits) and any(
        low <= digits[: len(low)] <= high and length in lengths for low, high, lengths in _ISSUERS
    )


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others."""
    kept, doubled = digits[-1::-2], digits[-2::-2]
    return (sum(map(int, kept)) + sum(_DOUBLED[d] for d in doubled)) % 10 == 0


_DOUBLED = {str(d): sum(divmod(2 * d, 10)) for d in range(10)}


_ISSUERS: tuple[tuple[str, str, Collection[int]], ...] = (
    ("2200", "2204", (16,)),  # Mir
    ("2221", "2720", (16,)),  # Mastercard
    ("30", "30", (14, 16, 19)),  # Diners Club
    ("34", "34", (15,)),  # American Express
    ("35", "35", range(16, 20)),  # JCB
    ("36", "36", range(14, 20)),  # Diners Club
    ("37", "37", (15,)),  # American Express
    ("38", "39", range(14, 20)),  # Diners Club
    ("4", "4", (13, 16, 19)),  # Visa
    ("50", "50", range(13, 20)),  # Maestro
    ("51", "55", (16,)),  # Mastercard
    ("56", "69", range(13, 20)),  # Maestro, Discover, RuPay, UnionPay
)
"""First digits, from and to, and the lengths of such a number."""


def is_iban(text: str) -> bool:
    """An IBAN: the country's length, and remainder 1 modulo 97 (ISO 13616-1, ISO/IEC 7064 MOD 97-10)."""
    if len(text) != IBAN_LENGTHS.get(text[:2].upper()):
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}

IBAN_LENGTHS: Mapping[str, int] = {
    country: length for length, countries in _COUNTRIES.items() for country in countries.split()
}
"""Characters by country, as SWIFT's IBAN registry lists them."""


def is_nhs(digits: str) -> bool:
    """An NHS number: ten digits with weights 10 to 2, modulo 11 (NHS Data Dictionary, attribute NHS NUMBER)."""
    weighted = sum(int(d) * w for d, w in zip(digits, range(10, 1, -1), strict=False))
    # A remainder of 1 would need the check digit 10: such numbers are not issued.
    return len(set(digits)) > 1 and (11 - weighted % 11) % 11 == int(digits[9])


def is_ssn(digits: str) -> bool:
    """A Social Security number that can have been issued (SSA POMS RM 10201.035): no part is all zeros, no 666, no 9xx."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def is_resident_id(text: str) -> bool:
    """A Chinese resident identity number: province, a real date of birth, ISO 7064 MOD 11-2 (GB 11643-1999)."""
    if text[:2] not in _PROVINCES:
        return False
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    weighted = sum(int(d) * (1 << (17 - at)) for at, d in enumerate(text[:17]))
    return "10X98765432"[weighted % 11] == text[17].upper()


_PROVINCES = frozenset(
    str(province)
    for block in ((11, 15), (21, 23), (31, 37), (41, 46), (50, 54), (61, 65), (71, 71), (81, 83))
    for province in range(block[0], block[1] + 1)
)
"""GB/T 2260; 81 to 83 are residence permits of Hong Kong, Macao and Taiwan."""
