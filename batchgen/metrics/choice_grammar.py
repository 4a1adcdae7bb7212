r"""How texts name the labels of a multiple choice: labels and lists of them, statements, verdicts.

A letter is a label only where the grammar around it makes it one: `A dog`, `I think`, `vitamin C`, `B.C.`, `C++`,
`D-Day`, `B超` have none. Texts are in NFKC, so that full-width letters, colons and brackets are ASCII.
"""

import re
from collections.abc import Mapping, Sequence

from batchgen.metrics.text import normalize

# Possessive throughout (`*+`): no backtracking on any text.
OPEN = r"(?:[\s*_`\"'“‘「【《(\[{<$:|]|\\\(|\\(?:text(?:bf|rm|it)?|mathrm|mathbf|bf|boxed|fbox)\s*\{)*+"
CLOSE = r"[\s*_`\"'”’)\]}>$.,:。、」】》!|\\]*+"
NOUN = (
    r"(?:(?:(?i:the|my|is)\s)?(?:(?i:correct|right|final|best|only)\s)?"
    r"(?i:options?|choices?|letters?|answers?|statements?|responses?|label)\s*+(?:[:,]\s*+)?"
    r"|(?i:the\s(?:first|second|third|fourth|fifth|last)\s(?:option|choice|one|answer|statement))\s*+[,:(]\s*+"
    r"|第[一二三四五六]个?(?:选项|项)?\s*+(?:[,:(]\s*+)?|选项\s*+)?+"
)
_CONNECTIVES = (
    r"because|since|as|and|or|is|are|for|due|but|with|from|which|here|so|given|in|based|according|by|if|when|where|that"
    r"|rather|instead|not|at|on|after|before|thanks|considering|although|though|while|whereas|via|per|only|too|indeed"
    r"|definitely|clearly|it|this|would|must|should|seems|again|then|therefore|now|best|correct|right|matches|fits"
)
_ENDS_A_LABEL = re.compile(
    rf"[*_`\"'”’」】)\]}}>$]+|\s*(?:[.,;:!?。、(=/&|\n]|$)|\s(?:[-–—]|->|→)|\s+(?i:{_CONNECTIVES})\b"
    r"|\s*(?:选项|项|是|因为|由于|理由|所以|和|或|与|及|以及|而|吧|了|正确|对|符合)"
)
_PROPER = re.compile(r"\s+(?:[A-Z]|[^\x00-\x7f])")
_NOT_A_WORD_END = re.compile(r"\s*(?:[).,;:*\]}。、]|$)", re.MULTILINE)
_LIST_END = re.compile(
    r"[*_`\"'”’」】)\]}>$]*(?:\s*(?:选项|两项|三项|四项|项))?(?:\s*(?:[.,;:!?。(\n<]|$)|\s[-–—]"
    r"|\s(?:because|since|due|which|for|but|with)\b|\s*(?:因为|由于))"
)
_PLURAL = re.compile(r"[*_)\]]*\s*(?:选项|项)?\s*(?:are|were|both|all|都|均|全)")
SEPARATOR = r"[\s*_`\"')\]」】]*+(?P<sep>[,;]\s*(?:and|or)\b|[,;/&、+]|\b(?:and|or|as\swell\sas)\b|和|或者|或|与|以及|及){bare}"


_LINE_MARK = re.compile(r"^\s*(?:(?:[-•>#]+|[0-9]{1,2}[.)])\s+)+")


class LabelGrammar:
    """The labels of one metric as patterns.

    Attributes:
        label: pattern of a label as written, with its boundaries.
        any_case: the same in any case.
    """

    def __init__(self, labels: Sequence[str], *, multiple: bool) -> None:
        self.labels = tuple(labels)
        self.multiple = multiple
        self._by_fold = {label.casefold(): label for label in labels}
        self._letters = all(
            len(label) == 1 and label.isascii() and label.isalpha() for label in labels
        )
        words = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
        left = r"(?<![A-Za-z0-9&°])(?<![A-Za-z0-9][-.'’])"
        right = r"(?![A-Za-z0-9+#]|['’][A-Za-z]|-[A-Za-z]|\.[A-Za-z](?![a-z])|\.\s[A-Z]\.\s)"
        self.label = rf"{left}(?:{words}){right}"
        self.any_case = rf"{left}(?i:{words}){right}"
        bare = r"|(?<=[A-Z)\]])\s+(?=[A-Z(\[])" if multiple else ""
        separator = SEPARATOR.replace(r"{bare}", bare)
        run = rf"[{''.join(map(re.escape, labels))}]" if self._letters else r"(?!)"
        self._run = re.compile(rf"{OPEN}{NOUN}{OPEN}{left}(?P<run>{run}{{2,}}){right}")
        self._first = re.compile(rf"{OPEN}{NOUN}{OPEN}(?P<label>{self.any_case})")
        self._next = re.compile(
            rf"(?:{separator}|(?P<joined>[)\]]\s*(?=[(\[])))\s*{OPEN}{NOUN}{OPEN}(?P<label>{self.label})"
        )
        self.subject_label = rf"(?:{self.label}|{left}{run}{{2,}}{right})"
        self._subject = re.compile(
            rf"(?P<label>{self.subject_label})(?P<more>(?:\s*(?:选项|项))?{SEPARATOR.replace('{bare}', '').replace('?P<sep>', '?:')}\s*{OPEN}{NOUN}{OPEN}{self.label}){{0,{len(labels)}}}"
        )
        self._mark = re.compile(
            rf"[ \t*_#>-]*(?:[(\[](?P<in>{self.any_case})[)\]]|(?P<out>{self.any_case})(?:\*\*)?"
            r"(?:[.)、](?=\s|[^\x00-\x7f]|[*_]|$)|:|\s[-–—]\s|(?:选项|项)[,:]))"
        )
        self._close = re.compile(rf"(?:\s*(?:选项|项))?{CLOSE}\??{CLOSE}")

    def named(self, written: str) -> str:
        """The label of a text in any case."""
        return self._by_fold[written.casefold()]

    def whole(self, text: str) -> tuple[str, ...] | None:
        """The labels, if the text contains nothing else but marks of lists, quotation and emphasis."""
        text = _LINE_MARK.sub("", text)
        found = self._run_at(text, 0) or self._list_at(text, 0)
        if found is None or not self._close.fullmatch(text, found[1]):
            return None
        return found[0]

    def at(
        self,
        text: str,
        start: int,
        options: Mapping[str, str] | None = None,
        *,
        strict: bool = False,
    ) -> tuple[tuple[str, ...], int] | None:
        """The labels that a statement names at `start`, and where they end; None if it begins with another word.

        strict: only upper-case labels at the end of a clause, for cues that occur in any text (`it is C`).
        """
        run = self._run_at(text, start)
        if run:
            return run
        first = self._first.match(text, start)
        if first is None or not self._is_meant(text, first, options or {}, strict=strict):
            return None
        return self._list_at(text, start)

    def subject(self, text: str, start: int) -> tuple[tuple[str, ...], int]:
        """The label at `start` and those that follow it in a list, and where they end: `A, B and D`."""
        match = self._subject.match(text, start)
        if match is None:
            return (), start
        run = self._run.match(text, start)
        if run:
            return tuple(dict.fromkeys(run["run"])), match.end()
        found: list[str] = []
        end = match.end()
        for one in re.compile(self.label).finditer(text, start, match.end()):
            if one[0] in found:  # `between A and B, A is better`: a clause of its own begins
                break
            found.append(one[0])
            end = one.end()
        return tuple(found), end

    def marked_line(self, text: str, start: int) -> str | None:
        """The label that marks the line at `start`, as in `B. Paris`, `(B) Paris` and `B: Paris`."""
        match = self._mark.match(text, start)
        return self.named(match["in"] or match["out"]) if match else None

    def _run_at(self, text: str, start: int) -> tuple[tuple[str, ...], int] | None:
        match = self._run.match(text, start)
        if match is None or len(set(match["run"])) < len(match["run"]):
            return None
        return tuple(match["run"]), match.end()

    def _list_at(self, text: str, start: int) -> tuple[tuple[str, ...], int] | None:
        """The label and those that continue a list; `C, A is wrong` and `C, A and B are wrong` continue none."""
        match = self._first.match(text, start)
        if match is None:
            return None
        found, ends, commas = [self.named(match["label"])], [match.end()], []
        while len(found) <= len(self.labels) and (following := self._next.match(text, ends[-1])):
            if (following["sep"] or "").strip() in (",", ";"):
                commas.append(len(found))
            found.append(self.named(following["label"]))
            ends.append(following.end())
        if len(found) > 1 and not _LIST_END.match(text, ends[-1]):
            # The list ends where the clause of another subject begins.
            plural = _PLURAL.match(text, ends[-1])
            keep = (commas[0] if plural else commas[-1]) if commas else len(found)
            if not commas and not plural:
                keep = len(found) - 1
            found, ends = found[:keep], ends[:keep]
        return tuple(dict.fromkeys(found)), ends[-1]

    def _is_meant(
        self, text: str, match: re.Match[str], options: Mapping[str, str], *, strict: bool
    ) -> bool:
        """Whether a label is meant rather than a word: `a dog`, `A dog`, `I think`, `C major`, `B超`."""
        written, end = match["label"], match.end()
        if len(written) > 1 or not written.isascii():
            return True
        if begins_with(text[end:], options.get(self.named(written), "")):
            return True
        if written not in self.labels:
            return not strict and _NOT_A_WORD_END.match(text, end) is not None
        ends = self._next.match(text, end) or _ENDS_A_LABEL.match(text, end)
        if strict:
            return written != "I" and ends is not None
        return ends is not None or (written not in "AI" and _PROPER.match(text, end) is not None)


def begins_with(text: str, option: str) -> bool:
    """Whether a text begins with the text of an option, as whole words."""
    form = normalize(option)
    if not form:
        return False
    begun = normalize(text[: 2 * len(option) + 20])
    return begun == form or begun.startswith(f"{form} " if form[-1].isascii() else form)
