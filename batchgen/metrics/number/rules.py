r"""Which number of a response is the answer: the one that is marked as such, else the last.

hash    #### 18               the form of GSM8K
boxed   \boxed{18}            the form of MATH
cue     The answer is 18      also: Answer: · A: · 答案是 · 答：
last    ... so 18 are left    the last number that is not a list mark and not in "step 2"
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Literal

from batchgen.metrics.number.reading import Number, find_numbers, find_numerals, to_plain_digits

NumberRule = Literal["hash", "boxed", "cue", "last", "first"]
Pick = Literal["last", "first"]
AnswerFormat = Literal["any", "hash", "boxed"]


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """An answer that is more than one number: 5-6, 5 or 6."""


@dataclass(frozen=True, slots=True)
class ExtractedNumber:
    """The number of an answer, and the rule that found it."""

    number: Number | Ambiguous
    rule: NumberRule


_Candidates = Iterator[Number | Ambiguous]


_CALCULATOR = re.compile(r"<<[^<>\n]{0,200}>>")
_HASH = re.compile(r"####[ \t]*([^\n]*)")
_GAP = r"[\s*_`\"'“”‘’(\[{$]*+"
_MARKUP = r"[\s*_`\"'“”‘’(\[{:：$]*+"
_CUE = re.compile(
    rf"""
      \b(?: answer | ans\b | result ) (?: \ (?:to|of|for)\ [^\n.:?!]{{0,80}}? )? [*_]*
        (?: {_GAP} (?: \b(?:is|was|equals|are|will\ be|would\ be|should\ be|comes\ (?:out\ )?to)\b | [:=] ) )++
    | (?: ^ | (?<=\n) ) [ \t*_#]* A [*_]* :
    | (?: 答案 | 结果 | 結果 ) {_GAP} (?: 应该是 | 應該是 | 应为 | 等于 | 等於 | 是 | 为 | 為 | [:=] )++
    | (?P<sentence> (?: ^ | (?<=[\n\s。，,;；.]) ) [*_]* 答 [*_]* (?: :|, ) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CUE_WORDS = re.compile(r"[答结結]|[aA][nN][sS]|[rR][eE][sS]|A[*_]*:")
"""Every cue contains one of these; searching for them first is three times as fast."""
_BOXED = re.compile(
    r"\\boxed\s*+\{(?P<inside>[^{}]*+(?:\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\}[^{}]*+)*+)\}"
)
_MARKS = re.compile(r"(?:\s|\*\*)*+")
_STATEMENT_END = re.compile(r"[。！？!?\n]|\.(?=\s|$)")
_FILLER = re.compile(
    rf"{_MARKUP}(?:(?:exactly|about|around|approximately|roughly|only|just|that|一共|总共|共|约|大约|是|为|等于|[≈=~])\s*+)*+{_MARKUP}",
    re.IGNORECASE,
)
_OPERATOR = re.compile(r"\s*([-+*/×÷=≈])\s*[($]*-?")
_OR = re.compile(r"-|\s?(?:to|or|~|到|至|或|或者)\s?")
_LIST_MARK = re.compile(r"(?:^|\n)[ \t]*$")
_LABEL = re.compile(
    r"(?:\b(?:steps?|figure|fig\.|table|section|equation|eq\.|question|problem|example|chapter|page|line|note|part|option|case|method)|第|步骤|例)\s*[(（#]?$",
    re.IGNORECASE,
)
_MEASURE = frozenset("个個只隻元块角分天年月周日小岁人次条张本支枝件颗棵辆斤克米里页杯瓶袋盒箱朵头匹双对名位组层倍秒点度。，,.;；!！ ")  # fmt: skip
_WORDS_WITH_ONE = re.compile(r"一[起样定般直些切旦致边面方共]|[第统唯万同单专]一|十分|万一|千万")
_STATEMENT_LIMIT = 400


def find_number(
    text: str, pick: Pick = "last", answer_format: AnswerFormat = "any"
) -> ExtractedNumber | None:
    """The number of an answer or a reference. `pick`: which of several that are marked in the same way."""
    text = to_plain_digits(text)
    if "<<" in text:
        text = _CALCULATOR.sub("", text)
    for rule, candidates in _RULES:
        if answer_format not in ("any", rule):
            continue
        found = candidates(text)
        number = next(found, None) if pick == "first" else _last(found)
        if number is not None:
            return ExtractedNumber(number, pick if rule == "last" else rule)
    return None


def _last(found: _Candidates) -> Number | Ambiguous | None:
    last = None
    for last in found:  # noqa: B007 - only the last one is used
        pass
    return last


def _hashed(text: str) -> _Candidates:
    if "####" not in text:
        return
    for match in _HASH.finditer(text):
        line = match[1].strip(" *`")
        for number in islice(find_numbers(line), 1):
            # `#### 2. Compute` and `#### 3 ways to do it` are headings.
            if not line[: number.start].strip("-= ") and len(line[number.end :].split()) <= 2:
                yield number


def _boxed(text: str) -> _Candidates:
    if "\\boxed" not in text:
        return
    for match in _BOXED.finditer(text):
        yield from islice(_statement(match["inside"]), 1)


def _cued(text: str) -> _Candidates:
    if not _CUE_WORDS.search(text):
        return
    cues = list(_CUE.finditer(text))
    for cue, following in zip_longest(cues, cues[1:]):
        start = _MARKS.match(text, cue.end()).end()  # type: ignore[union-attr] # it matches the empty text as well
        # A cue within a statement begins another one.
        limit = min(following.start() if following else len(text), start + _STATEMENT_LIMIT)
        end = _STATEMENT_END.search(text, start, limit)
        statement = text[start : end.start() if end else limit]
        if cue["sentence"]:  # 答：3个人一共有18个苹果。
            numbers = find_numbers(statement) or find_numerals(statement)
            yield from numbers[-1:]
        else:
            yield from _statement(statement)


def _statement(statement: str) -> _Candidates:
    """The number that a statement gives, if any; digits come before Chinese numerals.

    That is the one right at its start, or the result of `3 + 4 =` there; else its last one.
    """
    written = find_numbers(statement)
    spoken = find_numerals(statement)
    head = _FILLER.match(statement)
    start = head.end() if head else 0
    leading = [n for n in spoken if n.start <= start and n.end - n.start > 1]
    if leading or not written:
        yield from leading[:1] or spoken[-1:]
    elif written[0].start > start + 1:
        yield written[-1]
    else:
        yield from _expression(statement, written)


def _expression(statement: str, written: list[Number]) -> _Candidates:
    """The first number; if it begins an expression, the result, and nothing if no result is given."""
    at = result = written[0]
    for following in written[1:]:
        between = statement[at.end : following.start]
        operator = _OPERATOR.fullmatch(between)
        if at is written[0] and _OR.fullmatch(between):
            yield Ambiguous()
            return
        if operator is None:
            break
        at = following
        if operator[1] in "=≈":
            result = at
    if at is result:
        yield result


def _plain_numbers(text: str) -> _Candidates:
    any_digits = False
    for number in find_numbers(text):
        any_digits = True
        if not _is_mark(text, number):
            yield number
    if not any_digits:
        for number in find_numerals(text):
            if _stands_alone(text, number):
                yield number


def _is_mark(text: str, number: Number) -> bool:
    """Whether a number only marks its place: `2.` at the start of a line, `step 2`."""
    before = text[max(0, number.start - 20) : number.start]
    after = text[number.end : number.end + 3]
    if after[:1] in (".", ")", "、") and after[1:].strip() and after[1:2] in (" ", "\t", ""):
        starts_line = _LIST_MARK.search(before) is not None and (
            "\n" in before or number.start < 20
        )
        if starts_line:
            return True
    return _LABEL.search(before) is not None


def _stands_alone(text: str, number: Number) -> bool:
    """Whether a Chinese numeral counts something, rather than being part of a word such as 一起."""
    around = text[max(0, number.start - 1) : number.end + 1]
    if _WORDS_WITH_ONE.search(around):
        return False
    following = text[number.end : number.end + 1]
    return number.end - number.start > 1 or not following or following in _MEASURE


_RULES: tuple[tuple[NumberRule, Callable[[str], _Candidates]], ...] = (
    ("hash", _hashed),
    ("boxed", _boxed),
    ("cue", _cued),
    ("last", _plain_numbers),
)
