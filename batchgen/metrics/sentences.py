"""Sentences of a text, by rules: a full stop ends one, except after an abbreviation, an initial or a list's number.

A line break does not end a sentence, because text may be wrapped; a blank line, a list item and a heading do. On English
texts the counts are close to those of Punkt (Kiss and Strunk 2006), which needs data of its own; the differences are
kinds where Punkt counts the number of a list item, or joins a heading with the text below.
"""

from collections.abc import Iterator
from itertools import pairwise

import regex

_ITEM = r"(?:[-*+•‣◦●▪·–—]|\(?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,5})[.)](?!\d)|\d{1,3}、|[（(]?[一二三四五六七八九十]{1,3}[）)、.])"
_RULE = r"(?:[-*_=]\s*+){3,}+"
_FENCE = regex.compile(r"^[ \t]*(`{3,}|~{3,})[^\n]*\n.*?(?:^[ \t]*\1[ \t]*$|\Z)", regex.M | regex.S)
_NEW_BLOCK = regex.compile(
    rf"[\s>]*(?:{_ITEM}[ \t]*\S|\#{{1,6}}\s[^\n]*?\p{{L}}|{_RULE}$)", regex.M
)
"""A line before which a sentence ends: a list item, a heading with a letter (`#### 18` has none), a rule."""
_OWN_BLOCK = regex.compile(
    rf"[\s>]*(?:\#{{1,6}}\s[^\n]*?\p{{L}}|\*\*[^*\n]++\*\*:?\s*$|{_RULE}$)", regex.M
)
"""A line after which a sentence ends: a heading, a line in bold, a rule."""
_LABEL = regex.compile(rf"[\s>#*_]*(?:{_ITEM}\s*)?")
"""What is before the text of a list item: its bullet, its number or its letter."""
_STOP = regex.compile(
    r"(?P<always>(?:[。！？｡⁇⁈⁉।॥۔؟።։]|(?<![\d．])．(?!\d))[。！？｡⁇⁈⁉।॥۔؟።։!?…]*+[\p{Pf}\p{Pe}\"'*_]*+)"
    r"|(?P<mark>\.(?:[ \u00a0]\.)++|[.!?…]++)(?P<close>[\p{Pf}\p{Pe}\"'*_]*+)(?=\s|$|(?P<han>\p{Han}))"
)
_LONGEST = 32
"""More characters than the longest abbreviation has."""
_LAST_WORD = regex.compile(r"(?<![\w/@\\.])(?:[\p{L}\p{N}]+\.)*[\p{L}\p{N}]+$")
_NEXT_WORD = regex.compile(r"[\s\p{Pi}\p{Ps}\"'*_]*([\p{L}\p{N}]+(?:[’'.][\p{L}]+)*)")
_LETTERS = regex.compile(r"(?:\p{L}\.)+\p{L}|\p{L}")
"""An initial, or letters with full stops between them: `J`, `U.S`, `p.m`."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ROMAN = regex.compile(r"[IVXLC]{2,}|[VX]")

# Compared in lower case, without the full stop.
_BEFORE_NAME = _words(
    "Mr Mrs Ms Mx Dr Prof Maj Adm Cmdr Supt Gen Col Capt Lt Sgt Cpl Rev Hon Gov Sen Rep Pres Messrs Mme Mlle Sra Dra Fr Mt Ft mr mrs ms dr prof"
)
"""Never at the end of a sentence: titles and the like, in this case."""
_WITHIN = _words(
    "vs cf e.g i.e eg ie viz approx ca resp esp incl a.k.a op.cit sq cu fl al eds bzw z.b d.h"
)
"""Hardly ever at the end of a sentence."""
_BEFORE_NUMBER = _words(
    "no nos nr fig figs eq eqs sec ch chap op p pp vol vols refs para abb est dept tel ext Art Ex App Ref Tab"
)
"""Not at the end of a sentence if a number follows, or a single letter as in `Fig. A`."""
_BEFORE_LOWER = _words("p.m a.m etc oz lb lbs ft yd hr hrs min mins tsp tbsp usw")
"""At the end of a sentence if a word in capitals follows that is not a day, month or time zone."""
_NOT_WORDS = _words("inc ltd co corp bros llc plc jr sr st ave blvd univ assn")
"""Of the next, those that are hardly ever words of their own."""
_BEFORE_STARTER = _NOT_WORDS | _words(
    "ph.d m.d b.a m.a d.c u.s u.k u.n e.u u.s.a b.c a.d "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun "
    "rd tel calif mass conn"
)
"""At the end of a sentence if a word follows that often begins one."""
_STARTERS = _words(
    "the a an i he she it we you they this that these those there here who what when where why how which whose "
    "is are was were am do does did has have had can could will would should may might must "
    "my your his her its our their one two three some many most all each every any another other both neither no not "
    "if in on at as by for from to of with without after before during since until while although though because "
    "unless once and but or so yet nor then thus hence therefore however moreover furthermore meanwhile instead also "
    "finally first second third next now later today yesterday tomorrow please let yes maybe perhaps"
)
_DATES = _words(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
    "september october november december eastern pacific central mountain est edt pst pdt cst cdt mst gmt utc cet"
)


def split_sentences(text: str, *, layout: bool = True) -> list[str]:
    """The sentences of a text that contain a letter or digit; a text without a full stop is one.

    Without `layout` only full stops and the like end a sentence, wherever they are: as Punkt does it.
    """
    # Nothing ends within a block of code.
    seen = _FENCE.sub(lambda fence: "x" * len(fence[0]), text) if layout else text
    blocks = _blocks(seen) if layout else iter([(0, len(text))])
    ends = [end for start, stop in blocks for end in _ends_within(seen, start, stop)]
    parts = (text[left:right] for left, right in pairwise([0, *ends]))
    return [part for part in parts if any(c.isalnum() for c in part)]


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each paragraph, list item and heading; together they are the text."""
    start = at = 0
    closed = False
    for line in text.splitlines(keepends=True):
        blank = not line.strip()
        if at > start and (closed or blank or _NEW_BLOCK.match(line)):
            yield start, at
            start = at
        closed = blank or _OWN_BLOCK.match(line) is not None
        at += len(line)
    yield start, at


def _ends_within(text: str, start: int, stop: int) -> Iterator[int]:
    """Where the sentences of a block end, the last one included."""
    label = _LABEL.match(text, start, stop)
    first = label.end() if label else start
    last = start + len(text[start:stop].rstrip())
    for mark in _STOP.finditer(text, first, stop):
        if mark.end() < last and (mark["always"] or _is_end(text, first, mark)):
            yield mark.end()
    yield stop


def _is_end(text: str, first: int, mark: "regex.Match[str]") -> bool:
    """Whether a mark between two words ends a sentence. `first` is where the text of the block begins."""
    following = _NEXT_WORD.match(text, mark.end())
    after = following[1] if following else ""
    if mark["mark"] != ".":
        return _ends_at_mark(mark, after)
    word = _LAST_WORD.search(text[max(first, mark.start() - _LONGEST) : mark.start()])
    before = word[0] if word else ""
    if mark["han"]:
        return not before.isascii()
    return not (_is_closed(mark) and after[:1].islower()) and _ends_after(before, after)


def _ends_at_mark(mark: "regex.Match[str]", after: str) -> bool:
    dots = not set(mark["mark"]) - set(".… \u00a0")
    return not (dots and mark["han"]) and not (after[:1].islower() and (dots or _is_closed(mark)))


def _is_closed(mark: "regex.Match[str]") -> bool:
    return any(closing in "\"”’')]」』）" for closing in mark["close"])


def _ends_after(before: str, after: str) -> bool:
    """Whether a full stop between two words ends a sentence."""
    word, starts = before.lower(), after.lower() in _STARTERS and not after.islower()
    if before in _BEFORE_NAME or word in _WITHIN:
        return False
    if {before, word} & _BEFORE_NUMBER:
        is_number = after[:1].isdigit() or _ROMAN.fullmatch(after) is not None
        return not (is_number or after[:1].islower()) and (len(after) != 1 or word == "no")
    if word in _BEFORE_LOWER:
        return after[:1].isupper() and after.lower() not in _DATES
    is_initial = _LETTERS.fullmatch(before) is not None and before != "I"
    if word in _BEFORE_STARTER and (before != word or word in _NOT_WORDS):
        return starts
    return starts or not is_initial
