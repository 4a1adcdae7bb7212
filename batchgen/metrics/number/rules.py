r"""Which number of a response is the answer: the one that is marked as such, else the last.

hash    #### 18               the form of GSM8K
boxed   \boxed{18}            the form of MATH
cue     The answer is 18      also: Answer: · A: · 答案是 · 答：
last    ... so 18 are left    the last number that is not a list mark and not in "step 2"

The text behind a mark is read as a whole: `7 / 2` is 3.5, `\frac{-1}{4}` is -0.25, and an expression without an exact value,
such as `3\sqrt{2}`, `3x + 2` or `(3, 4)`, is unreadable. No later rule is tried then, and no part of it is taken.
What follows a line such as `Question:` belongs to another task, unless nothing precedes it that answers.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from batchgen.metrics.number.expressions import Unreadable, evaluate
from batchgen.metrics.number.reading import (
    Number,
    find_number_words,
    find_numbers,
    find_numerals,
    to_plain_digits,
)

NumberRule = Literal["hash", "boxed", "cue", "last", "first"]
Pick = Literal["last", "first"]
AnswerFormat = Literal["any", "hash", "boxed"]


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """An answer that is more than one number: 5-6, 5 or 6."""


@dataclass(frozen=True, slots=True)
class ExtractedNumber:
    """The number of an answer, and the rule that found it."""

    number: Number | Ambiguous | Unreadable
    rule: NumberRule


Found = Number | Ambiguous | Unreadable
_Candidates = Iterator[Found]


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
_SECOND_PART = re.compile(
    r"(?:\s+|\s*(?!(?:of|out|in|from|per|to|at|by|on|or|than|is|are|was|were|for)\b)[A-Za-z]+\.?(?:,?\s+and)?\s+)[0-9][0-9.,]*\s*[A-Za-z]*[.\s*$)]*+"
    r"|\s+and\s+(?:an?|one|two|three)\s(?:half|quarters?|thirds?|fifths?)\b.*",
    re.IGNORECASE,
)
"""What makes a number the first of two, none of which is the answer: `3 hours 20 minutes`, `1 234`, `3 and a half`."""
_OR = re.compile(r"-|\s?(?:to|or|~|到|至|或|或者)\s?")
_LIST_MARK = re.compile(r"(?:^|\n)[ \t]*$")
_LABEL = re.compile(
    r"(?:\b(?:steps?|figure|fig\.|table|section|equation|eq\.|question|problem|example|chapter|page|line|note|part|option|case|method)|第|步骤|例)\s*[(（#]?$",
    re.IGNORECASE,
)
_MEASURE = frozenset("个個只隻元块角分天年月周日小岁人次条张本支枝件颗棵辆斤克米里页杯瓶袋盒箱朵头匹双对名位组层倍秒点度。，,.;；!！ ")  # fmt: skip
_WORDS_WITH_ONE = re.compile(r"一[起样定般直些切旦致边面方共]|[第统唯万同单专]一|十分|万一|千万")
_STATEMENT_LIMIT = 400
_NEXT_TASK = re.compile(
    r"\n[ \t*#]*(?:question|problem|问题|题目|Q)[ \t]*\d*[ \t*]*[:.](?=[^\n])", re.IGNORECASE
)
_ONE = re.compile(
    r"[\s*_`\"'(]*one(?:\s(?!of\b|by\b|another\b|must\b|can\b|should\b)[a-z]+)?[\s*_`\"').!]*",
    re.IGNORECASE,
)
_WORDS = re.compile(r"(?<![\\\w])[^\W\d_]{2,}|[\u4e00-\u9fff]")
_BELONGS_BEFORE = re.compile(
    r"(?:\\(?:[dt]?frac|sqrt)\s*(?:\{[^{}]*\}\s*)?[\[{]\s*-?\s*|√|\^\s*[{(]?-?|[0-9)}]\s*[*×·÷/]\s*|[0-9)}]\s\+\s|[0-9)}]\s-\s)$"
)
_BELONGS_AFTER = re.compile(
    r"\s?\\(?:sqrt|pi|[dt]?frac)\b|[√π^]|\s?[*×·÷/]\s?[0-9(\\]|[b-df-fi-jn-rt-z](?![A-Za-z'’])"
)
_EXPRESSION_BEFORE = re.compile(
    r"(?:[-+*/×÷·^()\[\]{}0-9.,\s√]|\\(?:[dt]?frac|sqrt)|(?<=[0-9])[$])*(?<![0-9.])$"
)


def find_number(
    text: str, pick: Pick = "last", answer_format: AnswerFormat = "any"
) -> ExtractedNumber | None:
    """The number of an answer or a reference. `pick`: which of several that are marked in the same way."""
    text = to_plain_digits(text)
    if "<<" in text:
        text = _CALCULATOR.sub("", text)
    task = _NEXT_TASK.search(text)
    own = _by_rules(text[: task.start()], pick, answer_format) if task else None
    return own or _by_rules(text, pick, answer_format)


def _by_rules(text: str, pick: Pick, answer_format: AnswerFormat) -> ExtractedNumber | None:
    for rule, candidates in _RULES:
        if answer_format not in ("any", rule):
            continue
        found = candidates(text)
        number = next(found, None) if pick == "first" else _last(found)
        if number is not None and rule == "last":
            whole = _in_context(text, number) if isinstance(number, Number) else number
            return ExtractedNumber(whole, pick)
        if number is not None:
            return ExtractedNumber(number, rule)
    return None


def _last(found: _Candidates) -> Found | None:
    last = None
    for last in found:  # noqa: B007 - only the last one is used
        pass
    return last


def _hashed(text: str) -> _Candidates:
    if "####" not in text:
        return
    for match in _HASH.finditer(text):
        line = match[1].strip(" *`")
        if not line or re.match(r"[A-Za-z0-9.]+[.):]\s", line):  # `#### 2. Compute` is a heading
            continue
        value = evaluate(line, strict=False)
        words = len(line.split())
        if isinstance(value, Number):
            # `#### 3 ways to do it` is a heading.
            if len(line[value.end :].split()) <= 2:
                yield value
        elif value is not None and words <= 4:
            yield value


def _boxed(text: str) -> _Candidates:
    if "\\boxed" not in text:
        return
    for match in _BOXED.finditer(text):
        yield from _in_box(match["inside"])


def _in_box(inside: str) -> _Candidates:
    """The number that a box contains; one with other contents is an answer, but no number."""
    either = _either(inside)
    value = either or evaluate(inside, strict=True)
    if isinstance(value, Unreadable) and not any(sign in inside for sign in "\\^_="):
        words = [*find_numerals(inside), *find_number_words(inside)]
        value = words[0] if len(words) == 1 and not find_numbers(inside) else value
    yield value or Unreadable()


def _either(statement: str) -> Ambiguous | None:
    """Two numbers at the start, as a range or a choice: 5-6, 5 or 6."""
    first = find_numbers(statement[:_STATEMENT_LIMIT])[:2]
    head = _FILLER.match(statement)
    if len(first) < 2 or first[0].start > (head.end() if head else 0) + 1:
        return None
    return Ambiguous() if _OR.fullmatch(statement[first[0].end : first[1].start]) else None


def answer_text(text: str) -> str | None:
    """The text behind the last cue such as `the answer is`, to the end of the statement; None without a cue."""
    statements = [statement for statement, _ in _cued_statements(text)]
    return statements[-1] if statements else None


def _cued(text: str) -> _Candidates:
    for statement, is_sentence in _cued_statements(text):
        if is_sentence:  # 答：3个人一共有18个苹果。
            numbers = find_numbers(statement) or find_numerals(statement)
            yield from numbers[-1:]
        else:
            yield from _statement(statement)


def _cued_statements(text: str) -> Iterator[tuple[str, bool]]:
    """The text behind each cue, and whether it is a sentence of its own rather than the rest of one."""
    if not _CUE_WORDS.search(text):
        return
    cues = list(_CUE.finditer(text))
    for cue, following in zip_longest(cues, cues[1:]):
        start = _MARKS.match(text, cue.end()).end()  # type: ignore[union-attr] # it matches the empty text as well
        # A cue within a statement begins another one.
        limit = min(following.start() if following else len(text), start + _STATEMENT_LIMIT)
        end = _STATEMENT_END.search(text, start, limit)
        yield text[start : end.start() if end else limit], cue["sentence"] is not None


def _statement(statement: str) -> _Candidates:
    """The number that a statement gives, if any; digits come before Chinese numerals.

    That is the one right at its start, or the result of `3 + 4 =` there; else its last one.
    """
    written = find_numbers(statement)
    spoken = find_numerals(statement) or _spoken_words(statement)
    head = _FILLER.match(statement)
    start = head.end() if head else 0
    leading = [n for n in spoken if n.start <= start and (n.end - n.start > 1 or not written)]
    if leading:
        second = spoken[spoken.index(leading[0]) + 1 :][:1]
        between = [statement[leading[0].end : one.start] for one in second]
        yield Ambiguous() if any(map(_OR.fullmatch, between)) else leading[0]
        return
    value = _either(statement) or evaluate(statement, strict=False)
    if value is not None:
        yield Unreadable() if _is_first_part(statement, value) else value
    elif written:
        yield written[-1]
    else:
        yield from spoken[-1:]


def _is_first_part(text: str, value: Found) -> bool:
    """Whether a second number ends the text, which with the first is one quantity: `5 feet 2 inches`."""
    return (
        isinstance(value, Number)
        and len(text) <= _STATEMENT_LIMIT
        and _SECOND_PART.fullmatch(text, value.end) is not None
    )


def _spoken_words(text: str) -> list[Number]:
    """English number words; `one`, as in `no one` and `one of them`, only where it begins a short text."""
    return [
        number
        for number in find_number_words(text)
        if text[number.start : number.end].casefold() != "one" or _ONE.fullmatch(text)
    ]


def _plain_numbers(text: str) -> _Candidates:
    line = text.strip()
    numbers = find_numbers(line[:_STATEMENT_LIMIT])
    if numbers and numbers[0].start == 0 and _is_first_part(line, numbers[0]):
        yield Unreadable()
        return
    if line and "\n" not in line and len(line) <= _STATEMENT_LIMIT and not _WORDS.search(line):
        yield _either(line) or evaluate(line, strict=True) or Unreadable()
        return
    any_digits = False
    for number in find_numbers(text):
        any_digits = True
        if not _is_mark(text, number):
            yield number
    if not any_digits:
        found = [n for n in find_numerals(text) if _stands_alone(text, n)]
        yield from found or _spoken_words(text)


def _in_context(text: str, number: Number) -> Found:
    """A number of running text, or the value of the expression that it belongs to."""
    before, after = (
        text[max(0, number.start - 60) : number.start],
        text[number.end : number.end + 40],
    )
    if not _BELONGS_BEFORE.search(before) and not _BELONGS_AFTER.match(after):
        return number
    begins = _EXPRESSION_BEFORE.search(before)
    start = number.start - (len(begins[0]) if begins else 0)
    value = evaluate(text[start : start + _STATEMENT_LIMIT], strict=False)
    return value if isinstance(value, Number) and value.end + start >= number.end else Unreadable()


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
