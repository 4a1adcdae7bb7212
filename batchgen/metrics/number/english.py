"""English number words: twenty-five, two hundred and six, three point five, two thirds, two and a half, half a million, three dozen, fifty percent."""

import re
from dataclasses import dataclass
from fractions import Fraction

_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]  # fmt: skip
_UNITS = {word: value for value, word in enumerate(_ONES)}
_TENS = {word: 10 * value for value, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)}  # fmt: skip
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10}  # fmt: skip
_PLURALS = {"halve": "half"}

_SIZES = _SCALES | {"hundred": 100, "dozen": 12}
_SIZE = "|".join(_SIZES)
_WORD = "|".join((*_UNITS, *_TENS, "hundred", *_SCALES, "dozen"))
PATTERN = re.compile(
    rf"""(?<![A-Za-z-])(?:(?P<minus>minus|negative)\s+)?
    (?:(?:an?[ ])?(?P<share>half|third|quarter)[ ](?:of[ ])?(?=(?:an?[ ])?(?:{_SIZE})(?![A-Za-z])))?
    (?P<whole>(?:an?[ ](?={_SIZE}))?(?:{_WORD})(?:(?:[ ]|-|[ ]and[ ]|,[ ](?=\w+[ -](?:hundred|thousand|million)))(?:{_WORD}))*)
    (?:[ ]point(?P<decimals>(?:[ ](?:{"|".join(_ONES[:10])}))+))?
    (?:[ -](?P<part>{"|".join((*_PARTS, *_PLURALS))})(?P<plural>s)?(?:[ ](?:of[ ])?(?:an?[ ])?(?P<size>{_SIZE}))?)?
    (?:[ ]and[ ](?:a[ ]|one[ ])(?P<more>half|third|quarter)(?:[ ](?P<scale>{"|".join(_SCALES)}))?)?
    (?P<percent>[ ](?:percent|per[ ]cent))?(?![A-Za-z]|-[A-Za-z])""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class NumberWords:
    """The value of number words; fifty percent is 50 with `percent`."""

    value: Fraction
    percent: bool


def read_words(match: re.Match[str]) -> NumberWords | None:
    """The value of a match of `PATTERN`; None for words that make no number, such as `two three`."""
    value = _whole(match["whole"].casefold())
    if value is None:
        return None
    total = Fraction(value)
    if match["decimals"]:
        digits = "".join(str(_UNITS[word]) for word in match["decimals"].casefold().split())
        total += Fraction(int(digits), 10 ** len(digits))
    if match["part"]:
        part = match["part"].casefold()
        total *= Fraction(
            _SIZES.get((match["size"] or "").casefold(), 1), _PARTS[_PLURALS.get(part, part)]
        )
    if match["share"]:
        total /= _PARTS[match["share"].casefold()]
    if match["more"]:
        total += Fraction(1, _PARTS[match["more"].casefold()])
        total *= _SCALES.get((match["scale"] or "").casefold(), 1)
    return NumberWords(-total if match["minus"] else total, match["percent"] is not None)


def _whole(text: str) -> int | None:
    """The value of a whole number in words: sections below a thousand, each with a smaller scale than the one before."""
    total, last = 0, 10**15
    section: list[str] = []
    for word in (one for one in re.findall(r"[a-z]+", text) if one not in ("and", "a", "an")):
        if word not in _SCALES:
            section.append(word)
            continue
        value = _section(section) if section else 1
        if value is None or _SCALES[word] >= last:
            return None
        last = _SCALES[word]
        total, section = total + value * last, []
    rest = _section(section) if section else 0
    return None if rest is None else total + rest


def _section(words: list[str]) -> int | None:
    """The value of words below a thousand: `two hundred six`, `three dozen`; None for `two three`."""
    if words[-1] == "dozen":
        of = _section(words[:-1]) if words[:-1] else 1
        return None if of is None else 12 * of
    total, limit = 0, 1000  # the next word is below the limit: twenty five, but not five twenty
    for word in words:
        if word in ("hundred", "dozen"):
            if word == "dozen" or total >= 100:
                return None
            total, limit = (total or 1) * 100, 100
            continue
        value = _UNITS.get(word, _TENS.get(word, 0))
        if value >= limit:
            return None
        total, limit = total + value, 10 if word in _TENS else 0
    return total
