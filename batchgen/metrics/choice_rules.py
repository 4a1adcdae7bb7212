r"""Which labels of a multiple choice a text gives.

The first rule that finds something decides:

    whole        B · (b) · **B.** · Option B         the text contains nothing else
    stated       the last explicit statement of the text; the rule is named after its form:
      tagged     <answer>B</answer> · [[B]]
      boxed      \boxed{B} · \boxed{\text{(B)}}
      cue        The answer is B · I choose B · 答案：B · 故选B · 【答案】B · 答：B
      trailing   ... so:\n(B)                        the last line contains nothing else
    verdict      B is correct · B项正确 · A错，B对      exactly one label is judged right
    concluded    It is B. · Therefore, B. · ∴ B      cues that occur in any text: only before the end of a clause
    leading      B\n... · **B** - Paris · B, because  the text begins with it, and is not a list of options
    trailing     ...\n\nB. Paris                     the last line begins with it
    elimination  A, C and D are wrong                all labels but one are judged wrong
    option       Paris                               the text of exactly one option, not after `not`

A statement within a condition (`if the answer is B`), a question or a negation (`not B`) is none; `not A but B` is B.
What follows a line such as `Question:` belongs to another task, unless nothing precedes it that answers.
A capital letter on its own is never taken: `Let's see` is not L, `A dog` not A, `vitamin C` not C.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from batchgen.metrics.choice_grammar import OPEN, LabelGrammar, begins_with
from batchgen.metrics.choice_statements import Statements
from batchgen.metrics.choice_verdicts import Verdicts
from batchgen.metrics.text import normalize

ChoiceRule = Literal[
    "whole",
    "tagged",
    "boxed",
    "cue",
    "trailing",
    "verdict",
    "concluded",
    "leading",
    "elimination",
    "option",
]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The labels that a text gives, and the rule that found them. Of a single choice, several are not an answer."""

    labels: tuple[str, ...]
    rule: ChoiceRule


_NEXT_TASK = re.compile(
    r"\n[ \t*#]*(?:question|problem|问题|题目|Q)[ \t]*\d*[ \t*]*[:.][^\n]", re.IGNORECASE
)
_HTML = re.compile(r"</?(?:b|strong|em|i|u|p|span|div|code|br)\b[^<>]{0,80}>", re.IGNORECASE)
_LEADS = (
    r"(?:[*_`\"'”’)\]】」]+|[.)、:,。=](?=\s|[^\x00-\x7f]|[*_]|$|[A-Z][a-z])|\s\((?=[A-Z])|\s+(?:[-–—]+|->|→|=>)\s"
    r"|\s*(?=(?:because|since|due\sto|as|given|for)\s|因为|由于)|\s*\n)"
)
_NEGATION = re.compile(
    r"(?:\b(?:not|rather than|instead of|neither|nor|than|unlike|except|never)(?: the| a| an| in| is)?|不是|而非|并非|而不是|除了|不选)\s?$"
)
_ORDINALS = (
    ("first", "1st", "一"), ("second", "2nd", "二"), ("third", "3rd", "三"), ("fourth", "4th", "四"), ("fifth", "5th", "五"),
    ("sixth", "6th", "六"),
)  # fmt: skip


class LabelFinder:
    """Finds one or several of a set of labels, such as A, B, C, D, or 甲, 乙, 丙, 丁."""

    def __init__(self, labels: Sequence[str], *, multiple: bool = False) -> None:
        self.labels = tuple(labels)
        self._multiple = multiple
        self._grammar = LabelGrammar(labels, multiple=multiple)
        self._statements = Statements(self._grammar)
        self._verdicts = Verdicts(self._grammar)
        self._words = {label: label for label in labels if len(label) > 1}
        self._leads = re.compile(
            rf"{OPEN}(?:(?i:option|choice)\s|选项)?{OPEN}(?P<label>{self._grammar.any_case})(?P<mark>{_LEADS})?"
        )

    def exactly(self, text: str) -> tuple[str, ...] | None:
        """The labels, if the text contains nothing else but punctuation around and between them."""
        return self._grammar.whole(unicodedata.normalize("NFKC", text).strip())

    def find(self, text: str, options: Mapping[str, str]) -> Chosen | None:
        """The labels that a response gives. `options` are texts by label; empty if unknown."""
        text = _HTML.sub("", unicodedata.normalize("NFKC", text)).strip()
        own, _, other = text.partition(_next_task(text) or "\0")
        found = self._find(own, options or self._words)
        return found or (self._find(text, options or self._words) if other else None)

    def _find(self, text: str, options: Mapping[str, str]) -> Chosen | None:
        whole = self.exactly(text) or self._lines(text)
        if whole:
            stated = self._statements.explicit(text, {}, lambda _: None)
            return Chosen(whole, stated[0].form if stated else "whole")
        for rule in (
            self._stated,
            self._judged_right,
            self._concluded,
            self._leading,
            self._trailing,
            self._left_over,
            self._by_option,
        ):
            found = rule(text, options)
            if found is not None:
                return found
        return None

    def _lines(self, text: str) -> tuple[str, ...] | None:
        """The labels of a list that has one in each line, as a multiple choice may be answered."""
        if not self._multiple:
            return None
        lines = [self._grammar.whole(line) for line in text.splitlines() if line.strip()]
        named = [labels for labels in lines if labels]
        return tuple(dict.fromkeys(sum(named, ()))) if len(named) == len(lines) else None

    def _stated(self, text: str, options: Mapping[str, str]) -> Chosen | None:
        last_line = self._grammar.whole(text.rpartition("\n")[2]) if "\n" in text else None
        if last_line and not self._grammar.whole(text.rpartition("\n")[0].rpartition("\n")[2]):
            return Chosen(last_line, "trailing")
        found = self._statements.explicit(text, options, lambda part: option_in(part, options))
        if not found:
            return None
        last = max(found, key=lambda statement: (statement.firm, statement.start))
        return Chosen(last.labels, last.form)

    def _judged_right(self, text: str, options: Mapping[str, str]) -> Chosen | None:
        del options
        right, _ = self._verdicts.judged(text)
        if len(right) == 1 or (right and self._multiple):
            return Chosen(tuple(label for label in self.labels if label in right), "verdict")
        return None

    def _concluded(self, text: str, options: Mapping[str, str]) -> Chosen | None:
        found = self._statements.weak(text, options)
        return Chosen(found[-1].labels, "concluded") if found else None

    def _leading(self, text: str, options: Mapping[str, str]) -> Chosen | None:
        match = self._leads.match(text)
        if match is None:
            return None
        named = self._leading_labels(text, match, options)
        marks = self._marks(text)
        if named is None or (len(named) == 1 and self._lists_options(text, named[0], marks)):
            return None
        return Chosen(named, "leading")

    def _leading_labels(
        self, text: str, match: re.Match[str], options: Mapping[str, str]
    ) -> tuple[str, ...] | None:
        written, mark, end = match["label"], match["mark"], match.end("label")
        label = self._grammar.named(written)
        if begins_with(text[end:], options.get(label, "")):
            return (label,)
        named = self._grammar.at(text, 0, options)
        if (
            named is None
            and not (mark and written.lower() not in ("a", "i"))
            and not (mark and mark[0] in ".)、")
        ):
            return None
        if mark is None:
            return named[0] if named and self._stands_before_text(text, written, named[1]) else None
        is_word = written in ("A", "I") and (mark == "," or (mark == ":" and written == "A"))
        is_word = is_word and not (self._multiple and named and len(named[0]) > 1)
        if is_word or (written not in self.labels and mark[0] not in ".)、:]"):
            return None
        return named[0] if named else (label,)

    @staticmethod
    def _stands_before_text(text: str, written: str, end: int) -> bool:
        """Whether a bare label precedes the text of an option: `C Rome`, `C 罗马`."""
        return (
            written not in ("A", "I")
            and re.match(r"\s+(?:[A-Z][a-z]|[^\x00-\x7f])|:", text[end:]) is not None
        )

    def _marks(self, text: str) -> list[str]:
        starts = (0, *(match.end() for match in re.finditer(r"\n", text)))
        return [label for at in starts if (label := self._grammar.marked_line(text, at))]

    def _lists_options(self, text: str, leading: str, marks: Sequence[str]) -> bool:
        """Whether the label begins a list of options, in lines or in one; `C ...` before `A ...` begins none."""
        order = self.labels.index
        if len(marks) > 1 and marks[0] == leading:
            return order(marks[1]) > order(leading)
        inline = re.findall(rf"(?:^|[\s(])({self._grammar.label})[.)](?=\s)", text)
        return len(set(inline)) > 2 and inline == sorted(inline, key=order) and inline[0] == leading

    def _trailing(self, text: str, options: Mapping[str, str]) -> Chosen | None:
        """The label that marks the last line, unless it is the end of a list of options."""
        del options
        start = text.rfind("\n") + 1
        marks = self._marks(text)
        label = self._grammar.marked_line(text, start) if start else None
        if label is None or re.match(r"[\s*_]*A[*_]*:", text[start:]):
            return None
        repeats = len(marks) > 1 and self.labels.index(label) <= self.labels.index(marks[-2])
        return Chosen((label,), "trailing") if len(marks) == 1 or repeats else None

    def _left_over(self, text: str, options: Mapping[str, str]) -> Chosen | None:
        _, wrong = self._verdicts.judged(text)
        possible = [
            label
            for label in self.labels
            if not options or label in options or options is self._words
        ]
        left = [label for label in possible if label not in wrong]
        return Chosen((left[0],), "elimination") if len(left) == 1 and len(wrong) > 1 else None

    def _by_option(self, text: str, options: Mapping[str, str]) -> Chosen | None:
        label = option_in(text, options) or self._by_ordinal(text)
        return Chosen((label,), "option") if label else None

    def _by_ordinal(self, text: str) -> str | None:
        """The label of `the third option` or 第三个选项, if the text names one only."""
        named = {
            label
            for label, (word, short, sign) in zip(self.labels, _ORDINALS, strict=False)
            if re.search(
                rf"\bthe (?:{word}|{short}) (?:option|choice|answer)\b|第{sign}个?(?:选项|项|答案)",
                text,
                re.IGNORECASE,
            )
        }
        return named.pop() if len(named) == 1 else None


def _next_task(text: str) -> str | None:
    match = _NEXT_TASK.search(text)
    return match[0] if match else None


def option_in(text: str, options: Mapping[str, str]) -> str | None:
    """The label of the only option whose text is in a text; a longer option hides those within it."""
    shown = normalize(text)
    held = {
        label: form
        for label, form in ((label, normalize(option)) for label, option in options.items())
        if form and _holds(shown, form)
    }
    exact = [label for label, form in held.items() if form == shown]
    longest = exact or [
        label
        for label, form in held.items()
        if not any(form in other and form != other for other in held.values())
    ]
    return longest[0] if len(longest) == 1 else None


def _holds(shown: str, form: str) -> bool:
    """Whether a normal form is in another as whole words, at least once without a negation before it."""
    text, wanted = (f" {shown} ", f" {form} ") if form.isascii() else (shown, form)
    at = text.find(wanted)
    while at >= 0:
        if not _NEGATION.search(text[max(0, at - 25) : at + 1 if form.isascii() else at]):
            return True
        at = text.find(wanted, at + 1)
    return False
