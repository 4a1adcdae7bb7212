"""Does the response hold certain texts, or match a pattern."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import regex

from batchgen.metrics.base import Answer, Spec, unscored
from batchgen.metrics.texts import UNSPACED, folded
from batchgen.records import Score, Status

Mode = Literal["any", "all", "none"]

# Beside a letter or digit of a script with spaces, a text is only part of a word.
_WORD = rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}]]"
_STARTS_WORD = regex.compile(_WORD, regex.V1)
_ENDS_WORD = regex.compile(rf"{_WORD}$", regex.V1)


@dataclass(frozen=True, slots=True)
class Contains:
    """1 if any (all, none) of the texts are in the response, as whole words, without case and width.

    Attributes:
        texts: what is looked for; empty for the row's references.
        boundaries: none finds `no` in `know`.
    """

    spec: Spec
    texts: tuple[str, ...]
    mode: Mode
    boundaries: Literal["words", "none"]

    def score(self, answer: Answer) -> Score:
        """1, or 0; `answer` is the first text that was found."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        wanted = self.texts or answer.references
        if not wanted:
            return unscored(self.spec, "no_reference")
        found = self._found(answer.response, wanted)
        right = {"any": bool(found), "all": len(found) == len(wanted), "none": not found}[self.mode]
        status: Status = "ok" if answer.response.strip() else "empty"
        return Score(self.spec.name, float(right), status, found[0] if found else None)

    def _found(self, response: str, wanted: Sequence[str]) -> list[str]:
        text = _spaced_once(response)
        return [one for one in wanted if self._holds(text, _spaced_once(one))]

    def _holds(self, text: str, wanted: str) -> bool:
        if self.boundaries == "none":
            return wanted in text
        starts, ends = bool(_STARTS_WORD.match(wanted)), bool(_ENDS_WORD.search(wanted))
        at = text.find(wanted)
        while at >= 0:
            end = at + len(wanted)
            inside = (starts and at > 0 and _ENDS_WORD.search(text, max(0, at - 1), at)) or (
                ends and _STARTS_WORD.match(text, end)
            )
            if not inside:
                return True
            at = text.find(wanted, at + 1)
        return False


def _spaced_once(text: str) -> str:
    return " ".join(folded(text).split())


@dataclass(frozen=True, slots=True)
class Matches:
    """1 if a pattern is found in the response, or is not.

    Attributes:
        pattern: compiled by the package `regex`, whose searches can be stopped.
        timeout: seconds for one response; a search that takes longer is an error of that row.
    """

    spec: Spec
    pattern: "regex.Pattern[str]"
    expect: Literal["match", "no_match"]
    timeout: float

    def score(self, answer: Answer) -> Score:
        """1, or 0; `answer` is what the pattern matched."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        try:
            found = self.pattern.search(answer.response, timeout=self.timeout)
        except TimeoutError:
            return unscored(self.spec, "error", "timeout")
        right = (found is not None) == (self.expect == "match")
        status: Status = "ok" if answer.response.strip() else "empty"
        return Score(self.spec.name, float(right), status, found[0] if found else None)
