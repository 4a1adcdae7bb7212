"""Statements about the chosen label: `the answer is B`, `答案：B`, `<answer>B</answer>`, `it must be B`."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from batchgen.metrics.choice_grammar import LabelGrammar

Form = Literal["tagged", "boxed", "cue"]


@dataclass(frozen=True, slots=True)
class Statement:
    """Labels that a text states.

    Attributes:
        start: where the statement begins.
        firm: whether it is not a guess, as `could be B` or `if ..., the answer would be B` are.
    """

    labels: tuple[str, ...]
    form: Form
    start: int
    firm: bool = True


_NOUNS = (
    r"(?<![A-Za-z])(?i:answers?|ans|choice|option|selection|guess|verdict|label|category|class(?:ification)?|sentiment"
    r"|conclusion|response|solution|letter|(?:in)?correct\s[a-z]+|(?:right|best|false|true|wrong)\s(?:one|options?|choices?"
    r"|statements?|sentence|description|letters?))\b"
    r"|(?:Antwort|Lösung|[Rr]éponse|[Rr]espuesta|[Rr]esposta|[Rr]isposta)(?:\s(?:correcte|correcta|correta|corretta|final))?|[Aa]ntwoord|[Oo]dpowiedź|[Оо]твет|[Cc]evap|정답|답|答え|正解"
    r"|(?i:result|prediction|output|final|selected|chosen|decision|correct)(?=[\s*_\"']*[:=])"
    r"|(?i:(?:statement|option|one|choice|answer)\s(?:that|which)\s(?:is|are)\s(?:true|correct|right|false|incorrect))"
    r"|(?i:the\s(?:best|correct|right|most\slikely))(?=\s(?:is|are|would)\b)|(?:(?<=^)|(?<=\n)|(?<=[?.]\s))A(?=[*_]*:)"
    r"|(?:答案|选项|结论|结果)|(?:正确|错误|对|不对|合适|合理|恰当|准确|最佳|最好|符合题意|成立|符合)的(?:一项|选项|说法|答案|描述|叙述|表述)?"
    r"|我的(?:选择|答案|判断)|(?:(?<=^)|(?<=[\n\s。,;.【\[]))答"
)
_BE = (
    r"['’]s\b|(?i:is|are|was|remains|seems(?:\sto\sbe)?|appears\sto\sbe"
    r"|(?:would|will|should|must|could|might|may|can\sonly|has\sto|have\sto)(?:\s\w+)?\sbe|ist|lautet|est|es|é|è)\b"
    r"|应该是|应该为|应该选|应该|应为|应是|应选|可能是|大概是|就是|只能是|只有|当然是|显然是|分别是|是|为|有|包括|包含|选择|选(?!项)|填|는|은|は"
)
_LINKS = rf"(?:{_BE}|[:=→]|->|=>|[-–—]+(?=[\s*(\[]))"
_ABOUT = rf"(?:\s(?i:to|of|for|here|in)\b[^\n.:?!]{{0,80}}?(?=\s?(?<![A-Za-z])(?:{_BE})|\s?[:=]))?"
_FILLERS = (
    r"\b(?i:probably|most\slikely|likely|definitely|clearly|certainly|thus|therefore|then|indeed|actually|simply|just|still"
    r"|obviously|of\scourse|hence|given\sby|found\sin|as\sfollows|both|only|,?\s*I\s(?:think|believe|guess),?)\b"
)
_GAP = r"(?:[\s*_`\"'”’)\]】」》〗>(|$]|\\(?![A-Za-z]))"
_NOUN_CUE = re.compile(
    rf"(?P<noun>{_NOUNS}){_ABOUT}(?P<link>(?:{_LINKS}|{_GAP}|{_FILLERS})*+)(?P<not>(?:not|n't)\b|不是|并非|不)?"
)
_VERB_CUE = re.compile(
    r"(?<![A-Za-z])(?i:choose|chose|choosing|pick|picked|select|selected|selecting|go(?:ing)?\swith|went\swith|opt(?:ed|ing)?\sfor"
    r"|settl(?:e|ed|ing)\s(?:on|for)|vote\sfor|stick(?:ing)?\swith|lean(?:ing)?\stowards?)\b\s?(?::\s*)?"
    r"|(?:选择|选)(?!项|择题|修|手|用|出|取|举)(?:的?是)?:?"
    r"|(?:我认为|我觉得|我想|我猜)(?:答案)?(?:应该)?(?:是|选|为)"
)
_WEAK_CUE = re.compile(
    r"(?<![A-Za-z])(?:(?i:it|this|that|which)(?:['’]s|\s(?i:is|was|must\sbe|should\sbe|has\sto\sbe|would\sbe|will\sbe|can\sonly\sbe"
    r"|could\sbe|might\sbe|seems\sto\sbe))|(?i:must\sbe|should\sbe|gotta\sbe|has\sto\sbe|would\s(?:say|guess)))(?:\s+(?i:probably|definitely|clearly|most\slikely"
    r"|likely|therefore|thus|obviously|simply|just|only|indeed))*\s*+(?::\s*+)?"
    r"|(?<![A-Za-z])(?i:therefore|thus|hence|so|consequently|accordingly|conclusion|finally|i(?:['’]d)?\s(?:think|believe|say|guess))\b[,:]?\s*"
    r"|(?:(?<=^)|(?<=\n)|(?<=[.!?]\s))(?i:sure|definitely|certainly|probably|clearly|obviously|of\scourse|most\slikely|maybe|perhaps"
    r"|i\s(?:would\s)?(?:vote|guess)(?:\sfor)?)[!,.:]*\s+|(?:∴|⇒|=>|→)\s*"
    r"|(?:所以|因此|因而|故|综上(?:所述)?|于是|从而|那么|那就|就|应该|应当|肯定|一定|必然|只能|只有|当然)[,:]?(?:就)?(?:应该)?(?:是|为)?[,:]?\s*"
)
_BUT = re.compile(
    r"\s*[,;.]?\s*(?:but(?:\srather)?|rather|instead|it['’]s|it\sis|而是|应该是|应是|而应是|应为|而选|是)[,:]?\s*"
)
_NOT_HELD = re.compile(
    r"\b(?:if|whether|unless|suppose|supposing|assume|assuming|imagine|doubt|unlikely|unsure|unclear|some|others|many|people|students?"
    r"|(?:do|does|did|is|am|are|was)\snot|not\s(?:sure|certain|clear|think|believe|true|likely))\b|\b(?:do|does|did|is)n['’]t\b"
    r"|如果|假如|假设|若|倘若|是否|要是|不认为|不觉得|不确定|怀疑|有人|有的人|很多人|有些人",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"(?:\b(?:not|never|cannot|without|avoid|rather\sthan|instead\sof|nor|refuse\sto|wrong\sto|students?|people|others|they)\b|n['’]t\b)"
    r"\s+(?:\w+\s+)?$|(?:不|别|勿|误|错|未|没|还是|易|备|候|可|任|多|要么)(?:要|能|该|应|会|可)?$",
    re.IGNORECASE,
)
_OTHER = re.compile(
    r"\b(?:wrong|incorrect|other|another|alternative|tempting|common|possible|example|sample)\s+$|(?:错误|其他|错误的|可能的)$",
    re.IGNORECASE,
)
_REJECTED = re.compile(
    r"[*_`\"'”)\]]*\s*(?:(?i:(?:is|are|was|would\sbe)(?:\s\w+)?\s(?:not|wrong|incorrect|false)|isn['’]t)\b"
    r"|(?:选项|项)?(?:是)?(?:错|不对|不正确|的人)|\s*还是)"
)
_GUESS = re.compile(r"(?i:would|could|might|may)\s+be|可能|大概")
_ASKED = re.compile(r"[^.!?。！？\n]{0,200}[?？吗呢]")
_TAGGED = re.compile(
    r"<(?P<tag>(?i:answer|final_answer|final|ans|choice|option|result|label)|答案)>(?P<inside>.{1,300}?)</(?P=tag)>"
    r"|\[(?P<square>(?i:answer|ans))\](?P<within>.{1,300}?)\[/(?P=square)\]|\[\[(?P<double>[^\[\]]{1,40})\]\]",
    re.DOTALL,
)
_BOXED = re.compile(
    r"\\f?box(?:ed)?\s*+(?P<box>\{[^{}]*+(?:\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\}[^{}]*+)*+\})"
)
_BEFORE = 200
_CLAUSE_END = re.compile(r"[.!?。！？\n;,]|(?i:\bbut\b)")

OptionIn = Callable[[str], str | None]
"""The label of the only option whose text a statement contains."""


class Statements:
    """Finds the statements of texts about the labels of one metric."""

    def __init__(self, grammar: LabelGrammar) -> None:
        self._grammar = grammar

    def explicit(
        self, text: str, options: Mapping[str, str], option_in: OptionIn
    ) -> list[Statement]:
        """Statements that name what they are: tags, boxes, cues with a noun or a verb of choice; in any order."""
        return [
            *self._marked(text, option_in),
            *self._by_nouns(text, options, option_in),
            *self._by_verbs(text, options),
        ]

    def weak(self, text: str, options: Mapping[str, str]) -> list[Statement]:
        """Statements such as `it is B` and `so B`, which end a clause."""
        found = []
        for match in _WEAK_CUE.finditer(text):
            named = self._grammar.at(text, match.end(), options, strict=True)
            if named and self._holds(text, match.start(), named[1]):
                found.append(Statement(named[0], "cue", match.start()))
        return found

    def _marked(self, text: str, option_in: OptionIn) -> Iterator[Statement]:
        for match in _TAGGED.finditer(text):
            inside = match["inside"] or match["within"] or match["double"]
            labels = self._content(inside, option_in)
            if labels:
                yield Statement(labels, "tagged", match.start())
        for match in _BOXED.finditer(text):
            labels = self._content(match["box"], option_in)
            if labels:
                yield Statement(labels, "boxed", match.start())

    def _content(self, inside: str, option_in: OptionIn) -> tuple[str, ...]:
        named = self._grammar.whole(inside) or next(
            (found[0] for found in (self._grammar.at(inside, 0),) if found), None
        )
        if named:
            return named
        option = option_in(inside)
        inner = [] if option else list(self._by_nouns(inside, {}, option_in))
        return (option,) if option else inner[-1].labels if inner else ()

    def _by_nouns(
        self, text: str, options: Mapping[str, str], option_in: OptionIn
    ) -> Iterator[Statement]:
        for match in _NOUN_CUE.finditer(text):
            linked = re.search(_LINKS, match["link"]) is not None
            if not linked and not _IS_ANSWER.fullmatch(match["noun"]):
                continue
            if _OTHER.search(text, max(0, match.start() - _BEFORE), match.start()):
                continue
            start = self._turned(text, match.end()) if match["not"] else match.end()
            if start is not None:
                yield from self._behind(text, match, start, linked=linked, options=options)
                named = self._grammar.at(text, start, options)
                option = option_in(_clause(text, start)) if linked and named is None else None
                if option:
                    yield Statement((option,), "cue", match.start(), not _ASKED.match(text, start))

    def _behind(
        self,
        text: str,
        cue: re.Match[str],
        start: int,
        *,
        linked: bool,
        options: Mapping[str, str],
    ) -> Iterator[Statement]:
        """The labels at `start`, behind a cue. `linked`: a word such as `is` or a colon stands between them."""
        named = self._grammar.at(text, start, options)
        if named is None or (not linked and _REJECTED.match(text, named[1])):
            return
        if self._holds(text, cue.start(), named[1]) and not self._begins_list(
            text, cue.start(), named
        ):
            firm = not _GUESS.search(cue["link"]) and not _ASKED.match(text, named[1])
            yield Statement(named[0], "cue", cue.start(), firm)

    def _by_verbs(self, text: str, options: Mapping[str, str]) -> Iterator[Statement]:
        for match in _VERB_CUE.finditer(text):
            named = self._grammar.at(text, match.end(), options)
            if named is None or _REJECTED.match(text, named[1]):
                continue
            if _NEGATED.search(text, max(0, match.start() - _BEFORE), match.start()):
                continue
            if self._holds(text, match.start(), named[1]):
                firm = not _ASKED.match(text, named[1])
                yield Statement(named[0], "cue", match.start(), firm)

    def _turned(self, text: str, start: int) -> int | None:
        """Where the other label begins in `not A but B`; None if there is no other."""
        denied = self._grammar.at(text, start)
        but = _BUT.match(text, denied[1]) if denied else None
        return but.end() if but else None

    def _begins_list(self, text: str, start: int, named: tuple[tuple[str, ...], int]) -> bool:
        """Whether the label is the first line of a list of options below `Answer:`."""
        line_end = text.find("\n", named[1])
        following = self._grammar.marked_line(text, line_end + 1) if line_end >= 0 else None
        return "\n" in text[start : named[1]] and following not in (None, *named[0])

    @staticmethod
    def _holds(text: str, start: int, end: int) -> bool:
        """Whether a statement is not a condition, a doubt, or a question of its own."""
        return not_held_before(text, start) is None and text[end : end + 1] != "?"


def not_held_before(text: str, start: int) -> re.Match[str] | None:
    """The word by which the clause before `start` makes what follows a condition, a doubt or the view of others."""
    return _NOT_HELD.search(_CLAUSE_END.split(text[max(0, start - _BEFORE) : start])[-1])


_IS_ANSWER = re.compile(r"(?i:answers?|ans)|A|答案|答|정답|正解")


_STATEMENT_END = re.compile(r"[.!?;](?=\s|$)|[。！？；\n]")


def _clause(text: str, start: int) -> str:
    limit = start + 300
    end = _STATEMENT_END.search(text, start + 1, limit)
    return text[start : end.start() if end else limit]
