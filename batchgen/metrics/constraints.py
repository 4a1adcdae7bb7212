"""Does the response follow instructions that can be checked, in the manner of IFEval: strict or loose, all or each.

    strict   the response as it is
    loose    any of eight forms of it: without its first line, its last line, or both; with and without `*`

Of a row, `prompt` is 1 if all instructions are followed, `instruction` the share of them that are. Over a corpus,
`instruction` counts every instruction once, however many a row has.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from batchgen.errors import DataError
from batchgen.metrics.base import Answer, Floats, Spec, unscored
from batchgen.metrics.instructions import (
    InstructionCheck,
    Kwargs,
    LanguageDetector,
    MissingArgumentError,
    make_instruction_checks,
)
from batchgen.metrics.language import trained_detector
from batchgen.records import Score

Strictness = Literal["strict", "loose"]


class _UnreadableError(ValueError):
    """A row whose instructions cannot be read; the argument says why, without text of the row."""


class _LanguageUnknownError(Exception):
    """A language that only py3langid could tell."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction of a row: its id, and what it is told."""

    identifier: str
    told: Kwargs


@dataclass(frozen=True, slots=True)
class Constraints:
    """Which of the instructions are followed.

    Attributes:
        fixed: instructions of every row.
        columns: input columns with the ids and keywords of the row's own; empty for none.
        checks: the functions by id.
    """

    spec: Spec
    mode: Strictness
    fixed: tuple[Instruction, ...]
    columns: tuple[str, ...]
    checks: Mapping[str, InstructionCheck]

    def followed(self, answer: Answer) -> list[bool]:
        """Whether each instruction is followed.

        Raises:
            _UnreadableError: if the row's instructions are not as published.
        """
        asked = [*self.fixed, *_row_instructions(answer, self.columns)]
        forms = _forms(answer.response or "") if self.mode == "loose" else [answer.response or ""]
        return [self._is_followed(one, forms) for one in asked]

    def _is_followed(self, asked: Instruction, forms: Sequence[str]) -> bool:
        check = self.checks.get(asked.identifier)
        if check is None:
            raise _UnreadableError("unknown instruction")
        try:
            return any(check(form, asked.told) and bool(form.strip()) for form in forms)
        except MissingArgumentError as error:
            raise _UnreadableError(f"{asked.identifier}: {error}") from None

    def counts(self, answer: Answer) -> tuple[int, int] | Score:
        """How many instructions are followed, and how many there are; or why that is not known."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        try:
            followed = self.followed(answer)
        except _UnreadableError as error:
            return unscored(self.spec, "unparsed", str(error))
        except _LanguageUnknownError:
            return unscored(self.spec, "error", "needs py3langid")
        if not followed:
            return unscored(self.spec, "no_reference")
        return sum(followed), len(followed)


@dataclass(frozen=True, slots=True)
class PromptLevel:
    """1 if all instructions of the row are followed."""

    spec: Spec
    constraints: Constraints

    def score(self, answer: Answer) -> Score:
        """1, or 0."""
        found = self.constraints.counts(answer)
        if isinstance(found, Score):
            return found
        return Score(self.spec.name, float(found[0] == found[1]), _status(answer))


@dataclass(frozen=True, slots=True)
class InstructionLevel:
    """Share of the instructions that are followed."""

    spec: Spec
    constraints: Constraints

    @property
    def stats(self) -> tuple[str, ...]:
        """Instructions that are followed, and all."""
        return ("followed", "asked")

    def score(self, answer: Answer) -> Score:
        """From 0 to 1."""
        found = self.constraints.counts(answer)
        if isinstance(found, Score):
            return found
        return Score(self.spec.name, found[0] / found[1], _status(answer))

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        """The two counts."""
        found = self.constraints.counts(answer)
        return None if isinstance(found, Score) else found

    def finalize(self, sums: Floats) -> Floats:
        """Sums [..., 2] to shares [...]."""
        with np.errstate(divide="ignore", invalid="ignore"):
            shares: Floats = sums[..., 0] / sums[..., 1]
        return shares


def language_detector() -> LanguageDetector:
    """py3langid if it is installed; else a detector that leaves rows which need it unscored."""
    try:
        return trained_detector()
    except DataError:
        return _undetected


def instruction_checks() -> Mapping[str, InstructionCheck]:
    """The functions by id, with the detector that is installed."""
    return make_instruction_checks(language_detector())


def _undetected(_text: str) -> str | None:
    raise _LanguageUnknownError


def _status(answer: Answer) -> Literal["ok", "empty"]:
    return "ok" if (answer.response or "").strip() else "empty"


def _forms(text: str) -> list[str]:
    lines = text.split("\n")
    cut = ("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))
    forms = [text, *cut]
    return [*forms, *(form.replace("*", "") for form in forms)]


def _row_instructions(answer: Answer, columns: tuple[str, ...]) -> Iterator[Instruction]:
    if not columns:
        return
    identifiers, told = (_listed(answer.fields.get(column)) for column in columns)
    if told and len(told) != len(identifiers):
        raise _UnreadableError("as many keywords as instructions")
    for at, identifier in enumerate(identifiers):
        keywords = told[at] if told else {}
        if not isinstance(identifier, str) or not isinstance(keywords, Mapping | None):
            raise _UnreadableError("ids and mappings")
        # Parquet gives every row all keywords: null is "not told", 0 and false are values.
        known = {k: v for k, v in (keywords or {}).items() if v is not None}
        yield Instruction(identifier, known)


def _listed(cell: object) -> Sequence[Any]:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            raise _UnreadableError("JSON") from None
    if cell is None:
        return ()
    if not isinstance(cell, list | tuple):
        raise _UnreadableError("a list")
    return cell
