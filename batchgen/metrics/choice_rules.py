r"""Which label of a multiple choice a text gives.

    whole    B · (b) · **B.**                  the text contains nothing else
    cue      The answer is B · 答案：B · 故选B     the last such statement; also "B is correct", "B项正确"
    boxed    \boxed{B}
    leading  B. Because ...                    the text starts with it, and lists no other
    trailing ... so:\n(B)                      the last line contains nothing else
    option   Paris                             the text of exactly one option

The first capital letter is never taken: `Let's see` is not L, `A dog` not A, `not B` not B.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from batchgen.metrics.text import normalize

ChoiceRule = Literal["whole", "cue", "boxed", "leading", "trailing", "option"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A label, and the rule that found it. The label is empty if the text names several."""

    label: str
    rule: ChoiceRule


# Possessive throughout (`*+`): no backtracking on any text.
_OPEN = r"[\s*_`\"'“‘(\[{<$:「【]*+"
_CLOSE = r"[\s*_`\"'”’)\]}>$.,:。、」】!]*+"
_COPULA = r"(?:\s|[*_:=]|\b(?i:is|was|would\ be|should\ be|must\ be)\b)++"
_CUES = rf"""
    \b(?i:answer|choice|option)\b (?:\ (?i:to|of|for)\ [^\n.:?!]{{0,80}}?)? {_COPULA}
  | \b(?i:choose|choosing|pick|select|go\ with)\b\ ?
  | (?:答案|选项) [\s*_]*+ (?:应该是|应该|应为|应是|应选|应|是|为|选择|选|:)++
  | (?:选择|选)(?!项) [\s*_]*+
"""
_VERDICTS = r"""
    [)*_]*+ \s*+ (?i:is|are)\ (?i:the\ )?(?i:correct|right|best)\b
  | [)*_]*+ \s*+ (?:选项|项)? \s*+ (?:是|为)? (?:正确|对的)
"""
_NOT_A_WORD_END = re.compile(r"\s*(?:[).,;:*\]}。、]|$)", re.MULTILINE)
# After "A" and "I" a lower-case word makes a sentence, unless it continues a statement about the choice.
_MAKES_A_SENTENCE = re.compile(r"\ (?!(?:because|since|as|and|or|is|for|due|but|with|from|which)\b)[a-z]")  # fmt: skip


class LabelFinder:
    """Finds one of a set of labels, such as A, B, C, D, or 甲, 乙, 丙, 丁."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._by_fold = {label.casefold(): label for label in labels}
        ordered = sorted(labels, key=len, reverse=True)
        label = rf"(?:{'|'.join(map(re.escape, ordered))})(?![A-Za-z0-9'’])"
        any_case = rf"(?<![A-Za-z0-9])(?P<label>(?i:{label}))"
        self._whole = re.compile(
            rf"{_OPEN}(?:(?i:option|choice)\ |选项)?{_OPEN}(?P<label>(?i:{label})){_CLOSE}"
        )
        self._cue = re.compile(
            rf"(?:{_CUES}) {_OPEN} (?:(?i:the\ )?(?i:option|choice|letter)\ |选项)? {_OPEN} {any_case}"
            rf"| (?<![A-Za-z0-9]) (?P<before>{label}) (?:{_VERDICTS})",
            re.VERBOSE,
        )
        self._boxed = re.compile(
            rf"\\boxed\s*\{{\s*(?:\\(?:text|mathrm|mathbf|textbf)\s*\{{)?\s*\(?(?P<label>{label})\)?\s*\}}"
        )
        self._mark = re.compile(
            rf"^[ \t*_]*(?:\((?P<in>{label})\)|(?P<out>{label})(?:[.)、](?=\s|[^\x00-\x7f]|[*_])|:))",
            re.MULTILINE,
        )
        self._more = re.compile(
            rf"[\s*_)\]]*+(?:,|/|&|、|\b(?:and|or)\b|和|或|与|及)\s*[(\[*]*{label}"
        )

    def exactly(self, text: str) -> str | None:
        """The label, if the text contains nothing else but punctuation around it."""
        match = self._whole.fullmatch(unicodedata.normalize("NFKC", text))
        return self._by_fold[match["label"].casefold()] if match else None

    def find(self, text: str, options: Mapping[str, str]) -> Chosen | None:
        """The label that a response gives. `options` are texts by label; empty if unknown."""
        text = unicodedata.normalize("NFKC", text).strip()
        for rule, found in (
            ("whole", self.exactly(text)),
            ("cue", self._cued(text)),
            ("boxed", self._in_box(text)),
            ("leading", self._leading(text)),
            ("trailing", self.exactly(text.rpartition("\n")[2])),
            ("option", _the_option(text, options)),
        ):
            if found is not None:
                return Chosen(found, rule)  # type: ignore[arg-type] # mypy widens the tuple's literals
        return None

    def _cued(self, text: str) -> str | None:
        last = None
        for label, end in self._stated(text):
            last = "" if self._more.match(text, end) else label
        return last

    def _stated(self, text: str) -> Iterator[tuple[str, int]]:
        for match in self._cue.finditer(text):
            written, end = match["label"] or match["before"], match.end("label")
            if match["before"] or self._is_meant(text, written, end):
                yield self._by_fold[written.casefold()], end if end >= 0 else len(text)

    def _is_meant(self, text: str, written: str, end: int) -> bool:
        """Whether a letter is a label rather than a word: `a dog`, `A dog`, `I think`."""
        if written not in self.labels:
            return _NOT_A_WORD_END.match(text, end) is not None
        return written not in ("A", "I") or _MAKES_A_SENTENCE.match(text, end) is None

    def _in_box(self, text: str) -> str | None:
        found = self._boxed.findall(text)
        return self._by_fold[found[-1].casefold()] if found else None

    def _leading(self, text: str) -> str | None:
        marks = list(self._mark.finditer(text))
        if not marks or marks[0].start() != 0:
            return None
        labels = {match["in"] or match["out"] for match in marks}
        # `A: Paris` may be the answer to a `Q:`.
        return None if len(labels) > 1 or marks[0][0].endswith("A:") else labels.pop()


def _the_option(text: str, options: Mapping[str, str]) -> str | None:
    """The label of the only option whose text is in the response; a longer option hides those within it."""
    shown = normalize(text)
    spaced = f" {shown} "
    held = {
        label: form
        for label, form in ((label, normalize(option)) for label, option in options.items())
        if form and (f" {form} " in spaced if form.isascii() else form in shown)
    }
    exact = [label for label, form in held.items() if form == shown]
    longest = exact or [
        label
        for label, form in held.items()
        if not any(form in other and form != other for other in held.values())
    ]
    return longest[0] if len(longest) == 1 else None
