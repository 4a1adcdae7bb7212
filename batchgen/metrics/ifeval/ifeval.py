"""Whether the response follows instructions that a program can check, as in IFEval: strict or loose, all or each.

    strict   the response as it is
    loose    any of eight forms of it: without its first line, its last line, or both; with and without `*`

Of a row, `prompt` is 1 if all instructions are followed, `instruction` the share of them that are. Over a corpus,
`instruction` counts every instruction once, however many a row has.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import AfterValidator, Field, model_validator

from batchgen.errors import DataError
from batchgen.metrics.base import (
    Answer,
    MetricOptions,
    MetricType,
    Spec,
    SumRatio,
    scored,
    unscored,
)
from batchgen.metrics.ifeval.instructions import (
    INSTRUCTIONS,
    InstructionCheck,
    Kwargs,
    MissingArgumentError,
    make_instruction_checks,
)
from batchgen.metrics.language import english_test, trained_detector
from batchgen.records import Score
from batchgen.section import AsTuple, NonEmptyText


def _complete(instructions: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    for one in instructions:
        names = INSTRUCTIONS.get(str(one.get("id")))
        if names is None:
            raise ValueError(
                f"unknown instruction {one.get('id')!r}; one is {next(iter(INSTRUCTIONS))}"
            )
        if names != one.keys() - {"id"}:
            expected = ", ".join(["id", *sorted(names)])
            raise ValueError(f"{one['id']} needs exactly the keys {expected}")
    return instructions


class IfevalOptions(MetricOptions):
    """The response follows instructions that a program can check, as in IFEval (Zhou et al. 2023); in Chinese as well.

    Instructions about a language or about English in capitals or lower case need the extra `metrics`.
    """

    type: Literal["ifeval"] = "ifeval"
    variants: Annotated[
        tuple[
            Literal["prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose"], ...
        ],
        AsTuple,
        Field(min_length=1),
    ] = ("prompt_strict", "instruction_strict")
    """Each is a metric: all of a row's instructions or each, of the response as it is or without its frame."""
    instructions: NonEmptyText | None = None
    """Column with the ids of the row's instructions, such as `instruction_id_list`: a list, or JSON of one."""
    kwargs: NonEmptyText | None = None
    """Column with a mapping of arguments for each of those."""
    checks: Annotated[tuple[dict[str, Any], ...], AsTuple, AfterValidator(_complete)] = ()
    """Instructions of every row: `{id: "length_constraints:number_words", relation: at least, num_words: 100}`."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.instructions is None and not self.checks:
            raise ValueError("give instructions, a column of ids, or checks, a list")
        if (self.instructions is None) != (self.kwargs is None):
            raise ValueError("instructions and kwargs, both columns, go together")
        return self


class _UnreadableError(ValueError):
    """A row whose instructions cannot be read; the message is the reason, without text of the row."""


class LanguageUnknownError(Exception):
    """A language that only py3langid can detect, which is not installed."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction of a row."""

    identifier: str
    kwargs: Kwargs


@dataclass(frozen=True, slots=True)
class Ifeval:
    """1 if all instructions of a row are followed.

    Attributes:
        fixed: instructions of every row.
        columns: input columns with the ids and arguments of the row's own; empty for none.
    """

    spec: Spec
    loose: bool
    fixed: tuple[Instruction, ...]
    columns: tuple[str, ...]
    checks: Mapping[str, InstructionCheck]

    def score(self, answer: Answer) -> Score:
        counts = self.counts(answer)
        return (
            counts if isinstance(counts, Score) else scored(self.spec, self.value(*counts), answer)
        )

    def value(self, followed: int, given: int) -> float:
        return float(followed == given)

    def counts(self, answer: Answer) -> tuple[int, int] | Score:
        """How many instructions are followed, and how many there are; or the score of a row where that is unknown."""
        try:
            instructions = [*self.fixed, *_row_instructions(answer, self.columns)]
            forms = _forms(answer.text) if self.loose else [answer.text]
            followed = [self._is_followed(one, forms) for one in instructions]
        except _UnreadableError as error:
            return unscored(self.spec, "unparsed", str(error))
        except LanguageUnknownError:
            return unscored(self.spec, "error", "needs py3langid")
        if not followed:
            return unscored(self.spec, "no_reference")
        return sum(followed), len(followed)

    def _is_followed(self, instruction: Instruction, forms: Sequence[str]) -> bool:
        check = self.checks.get(instruction.identifier)
        if check is None:
            raise _UnreadableError("unknown instruction")
        try:
            return any(check(form, instruction.kwargs) and bool(form.strip()) for form in forms)
        except MissingArgumentError as error:
            raise _UnreadableError(f"{instruction.identifier}: {error}") from None


@dataclass(frozen=True, slots=True)
class InstructionLevel(Ifeval, SumRatio):
    """Share of the instructions that are followed."""

    @property
    def stats(self) -> tuple[str, ...]:
        return ("followed", "given")

    def value(self, followed: int, given: int) -> float:
        return followed / given

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        counts = self.counts(answer)
        return None if isinstance(counts, Score) else counts


def _forms(text: str) -> list[str]:
    lines = text.split("\n")
    cut = ("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))
    forms = [text, *cut]
    return [*forms, *(form.replace("*", "") for form in forms)]


def _row_instructions(answer: Answer, columns: tuple[str, ...]) -> Iterator[Instruction]:
    if not columns:
        return
    identifiers, every = (_listed(answer.fields.get(column)) for column in columns)
    if every and len(every) != len(identifiers):
        raise _UnreadableError("as many kwargs as instructions")
    for at, identifier in enumerate(identifiers):
        kwargs = every[at] if every else {}
        if not isinstance(identifier, str) or not isinstance(kwargs, Mapping | None):
            raise _UnreadableError("ids and mappings")
        # Parquet gives every row all arguments: null means absent, 0 and false are values.
        yield Instruction(identifier, {k: v for k, v in (kwargs or {}).items() if v is not None})


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


def _undetected(_text: str) -> NoReturn:
    raise LanguageUnknownError


def _ifeval(spec: Spec, options: IfevalOptions) -> tuple[Ifeval, ...]:
    fixed = tuple(
        Instruction(one["id"], {k: v for k, v in one.items() if k != "id"})
        for one in options.checks
    )
    columns = tuple(one for one in (options.instructions, options.kwargs) if one)
    try:
        detect, is_english = trained_detector(), english_test()
    except DataError:  # py3langid is not installed: rows that need it are not scored
        detect = is_english = _undetected
    checks = make_instruction_checks(detect, is_english)
    return tuple(
        (Ifeval if name.startswith("prompt") else InstructionLevel)(
            spec.variant(name), name.endswith("loose"), fixed, columns, checks
        )
        for name in options.variants
    )


IFEVAL = MetricType(IfevalOptions, _ifeval, version=2)
