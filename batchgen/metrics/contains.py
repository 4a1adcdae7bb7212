"""Does the response hold certain texts, or match a pattern."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import regex

from batchgen.metrics.base import Answer, Spec, stored_form, unscored
from batchgen.metrics.texts import contains_words, fold_case
from batchgen.records import Score, Status

ContainsMode = Literal["any", "all", "none"]


@dataclass(frozen=True, slots=True)
class Contains:
    """1 if any (all, none) of the texts are in the response, as whole words, without case and width.

    Attributes:
        texts: what is looked for; empty for the row's references.
        boundaries: none finds `no` in `know`.
    """

    spec: Spec
    texts: tuple[str, ...]
    mode: ContainsMode
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
        return Score(self.spec.name, float(right), status, stored_form(found[0]) if found else None)

    def _found(self, response: str, wanted: Sequence[str]) -> list[str]:
        text = _spaced_once(response)
        holds = contains_words if self.boundaries == "words" else str.__contains__
        return [one for one in wanted if holds(text, _spaced_once(one))]


def _spaced_once(text: str) -> str:
    return " ".join(fold_case(text).split())


@dataclass(frozen=True, slots=True)
class RegexMatch:
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
        return Score(self.spec.name, float(right), status, stored_form(found[0]) if found else None)
