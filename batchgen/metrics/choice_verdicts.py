"""Verdicts of a text on single labels: `B is correct`, `A and C are wrong`, `A错，B对`, `C. Rome - correct`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from batchgen.metrics.choice_grammar import LabelGrammar
from batchgen.metrics.choice_statements import not_held_before

_ADVERBS = (
    r"(?:(?:\s|,)+(?:the|my|a|an|to|be|all|both|also|clearly|definitely|probably|obviously|therefore|thus|indeed|only|most|likely"
    r"|single|one|then|factually|completely|totally|simply|just))*"
)
_RIGHT_WORDS = (
    r"(?:correct|right|true|accurate|valid)(?:\s(?:answer|choice|option|one|statement|letter|response))?"
    r"(?=\s*(?:[.,;:!)*\n(]|$|\s[-–—])|\s(?:because|since|as|and|for|but|while|given|due|here|based|about)\b)"
    r"|(?:best|final|answer|winner|better|preferable|most\s(?:appropriate|likely|suitable|accurate|plausible|fitting|reasonable)|correct\s(?:answer|choice|option)|only\s(?:answer|choice|option))\b(?!\s(?:known|of))"
)
_WRONG_WORDS = r"(?:incorrect|wrong|false|inaccurate|invalid|out|eliminated|ruled\sout|not\spossible|impossible|irrelevant)\b"
_VERB = r"(?P<verb>is|are|was|were|seems?|looks?|appears?|must\sbe|would\sbe|should\sbe|has\sto\sbe|can\sonly\sbe|isn['’]t|aren['’]t|cannot\sbe|can['’]t\sbe|[:=]|-+|–|—)"
_ENGLISH = re.compile(
    rf"[*_`\"'”)\]]*\s*(?:{_VERB})(?P<not>\s+(?:not|never))?{_ADVERBS}\s+(?:(?P<right>{_RIGHT_WORDS})|(?P<wrong>{_WRONG_WORDS}))",
    re.IGNORECASE,
)
_MARKED = re.compile(
    r"[*_]*[)\].:]?[*_]*\s*(?:(?P<not>not\s)?(?:(?P<right>right|correct|yes|正确|对)|(?P<wrong>wrong|incorrect|false|错误|不正确|错|不对))"
    r"(?=\s*(?:[.,;)\n(。]|$|[A-Z][.)、:]))"
    r"|(?P<check>[✓✔√✅☑])|(?P<cross>[✗✘×❌]))",
    re.IGNORECASE,
)
_FITS = re.compile(
    r"[*_)\]]*\s(?:(?:also\s)?(?:fits?|matches)\s(?:the\s)?best|makes\s(?:the\smost\s|more\s)?sense|it\sis(?=\s*(?:[.!,;\n]|$)))"
)
_ELLIPSIS = re.compile(r"\s(?:is|does|was)(?=\s*(?:[.!\n]|$))")
_CONTRAST = re.compile(r",(?:\s(?:but|while|and))?\s?$")
_CHINESE = re.compile(
    r"[*_)\]]*\s*(?:选项|[两三四五]?项|选)?(?:的)?(?:说法|描述|表述|叙述)?[,:]?\s*(?:才|也|则|显然|明显|就|都|均|全)*(?:是|为)?(?P<not>不|并不|非|没有)?(?:是|够|太)?"
    r"(?:(?P<right>正确|对(?![应于称手象话比面方照着付待吗么不])|最佳|符合)|(?P<wrong>错误|错(?![过综乱落开])|排除))(?![吗么])"
)
_OUT = re.compile(
    r"(?:(?<![A-Za-z])(?i:eliminate|eliminating|rule\sout|ruling\sout|exclude|discard|reject|neither|nor|not|none\sof)\s+|(?:排除|不是|不选)[:]?\s*)$"
)
_ASKS = re.compile(r"(?:\b(?:if|whether|is|are|why\sis)\s+|是否|如果|若|假如)$", re.IGNORECASE)
_LINE = re.compile(
    r"(?:[-–—:(,;]|[.]\s|->|→|=>)\s*(?:\*\*|\()?(?:this\sis\s|that['’]s\s|it\sis\s|it['’]s\s)?(?:the\s)?"
    r"(?:(?P<right>correct|right)|(?P<wrong>incorrect|wrong|not\s(?:correct|right)))(?:\s(?:answer|choice|option))?\b"
    r"|(?P<check>[✓✔√✅☑])|(?P<cross>[✗✘❌])|[-–—:(,;。]\s*(?:(?P<right_zh>正确|对)|(?P<wrong_zh>错误|不正确|错|不对))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a text judges a label right."""

    label: str
    right: bool


class Verdicts:
    """Finds verdicts on the labels of one metric."""

    def __init__(self, grammar: LabelGrammar) -> None:
        self._grammar = grammar
        self._label = re.compile(grammar.subject_label)

    def judged(self, text: str) -> tuple[frozenset[str], frozenset[str]]:
        """The labels judged right and those judged wrong; the last verdict on a label counts."""
        last = {verdict.label: verdict.right for verdict in self._all(text)}
        right = frozenset(label for label, is_right in last.items() if is_right)
        return right, frozenset(last) - right

    def _all(self, text: str) -> Iterator[Verdict]:
        at = 0
        while match := self._label.search(text, at):
            labels, end = self._grammar.subject(text, match.start())
            at = max(end, match.end())
            right = self._of_subject(text, match.start(), end)
            if right is None:
                right = self._of_line(text, match.start(), end) if len(labels) == 1 else None
            if right is not None:
                yield from (Verdict(label, right) for label in labels)

    @staticmethod
    def _of_subject(text: str, start: int, end: int) -> bool | None:
        """The verdict right behind a label or a list of them; `eliminate A` and `neither A` have theirs before it."""
        before = text[max(0, start - 40) : start].rstrip("*_`\"'(“[")
        out = _OUT.search(before)
        for pattern in (_ENGLISH, _MARKED, _CHINESE):
            found = pattern.match(text, end)
            if found is None:
                continue
            if _ASKS.search(before) or not_held_before(text, start):
                return None
            groups = found.groupdict()
            verb = (groups.get("verb") or "").casefold()
            negated = bool(groups["not"]) or "n't" in verb or "n’t" in verb or "cannot" in verb
            right = bool(groups["right"] or groups.get("check"))
            return right != (negated or bool(out and right))
        if _FITS.match(text, end) and not not_held_before(text, start):
            return True
        if _ELLIPSIS.match(text, end) and _CONTRAST.search(text[max(0, start - 8) : start]):
            return True
        return False if out else None

    def _of_line(self, text: str, start: int, end: int) -> bool | None:
        """The verdict at the end of a line or clause that begins with a label: `C. Rome - correct`, `C项，…，正确`."""
        line = text.rfind("\n", max(0, start - 20), start) + 1
        begins = start - line <= 20 and not text[line:start].strip(" *_#>-([")
        if self._grammar.marked_line(text, line if begins else start) is None:
            return None
        rest = re.split(r"[\n;]|。(?=.)", text[end : end + 300])[0]
        following = self._label.search(rest)
        found = _LINE.search(rest[: following.start()] if following else rest)
        return bool(found["right"] or found["check"] or found["right_zh"]) if found else None
