"""Whether the response gives the right label of a multiple choice. `choice_rules.py` finds the label."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from batchgen.metrics.base import (
    Answer,
    Floats,
    MetricOptions,
    MetricType,
    RowMetric,
    Spec,
    no_answer_found,
    unscored,
)
from batchgen.metrics.choice_rules import Chosen, LabelFinder
from batchgen.metrics.macro_f1 import class_count_names, class_counts, macro_f1
from batchgen.metrics.options import (
    LABELS,
    AmbiguousReferenceError,
    OptionTexts,
    gold_labels,
    read_options,
)
from batchgen.records import Score
from batchgen.section import NonEmptyText, NonEmptyTexts


def _distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len({label.casefold() for label in labels}) < len(labels):
        raise ValueError("two labels differ only in case, or not at all")
    return labels


class ChoiceOptions(MetricOptions):
    """The response gives the label of the reference, such as B.

    Takes the last explicit statement (`the answer is B`, `答案：B`, `<answer>B</answer>`, a last line `B`), else a verdict
    (`B is correct`, `A错，B对`), `it is B.`, a label at the start or in the last line, the label that remains when all others
    are called wrong, or the text of one option; never a capital letter within a sentence.

    Labels that are classes, such as [positive, negative, neutral], also give `<name>_macro_f1`: the mean F1 of the labels
    that occur as a reference. An answer without a label is wrong: a false negative of its reference. The confusion matrix is
    printed with the scores, and is in scores.parquet: the columns `reference` and `answer`. Not with letters from A on, nor
    with `multiple` or `options`.
    """

    type: Literal["choice"] = "choice"
    labels: Annotated[NonEmptyTexts, Field(min_length=2), AfterValidator(_distinct)] = (
        "A",
        "B",
        "C",
        "D",
    )
    """The labels to choose from."""
    multiple: bool = False
    """true: several labels may be right, as in `ABD`, `A, B and D`, `A、B、D`. The score is 1 if the response gives exactly those of
    the reference; `<name>_f1` is the F1 of the two sets. References with one label each are taken together."""
    options: NonEmptyText | None = None
    """Column with the texts of the options: a list in the order of the labels, a mapping by label, {text, label} as in ARC, or JSON of these."""


@dataclass(frozen=True, slots=True)
class LabelReader:
    """Reads the labels of references and responses. `column` has the texts of the options; empty for none."""

    finder: LabelFinder
    column: str
    multiple: bool = False

    def options(self, answer: Answer) -> OptionTexts | None:
        """The options of the row; None where the cell has no form that can be read."""
        cell = answer.fields.get(self.column) if self.column else None
        options = read_options(cell, _labels_in_order(self.finder.labels))
        return None if cell is not None and not options.texts else options

    def expected(self, answer: Answer, options: OptionTexts) -> set[frozenset[str]]:
        """The right sets of labels, any of which is accepted; references that name no label are left out.

        Of a multiple choice, references with one label each make one set.

        Raises:
            AmbiguousReferenceError: if a reference is the text of one option and the label of another.
        """
        found = {
            labels
            for reference in answer.references
            for labels in self._labels(
                reference, options, integer=reference in answer.integer_references
            )
        }
        if self.multiple and found and all(len(labels) == 1 for labels in found):
            return {frozenset[str]().union(*found)}
        return found if self.multiple else {labels for labels in found if len(labels) == 1}

    def given(self, answer: Answer, options: OptionTexts) -> Chosen | None:
        """The labels that the response gives; of a single choice, None if there are several."""
        finder = self._finder(options)
        if options.texts or len(answer.text) > _LONGEST_KEPT:
            return finder.find(answer.text, options.texts)
        return _find_without_options(finder, answer.text)

    def in_order(self, labels: frozenset[str], options: OptionTexts) -> str:
        """Labels as a score has them: `A, B, D`."""
        known = self._finder(options).labels
        return ", ".join(known[position] for position in self.positions(labels, options))

    def positions(self, labels: frozenset[str], options: OptionTexts) -> list[int]:
        """The positions of labels among all labels, in order."""
        return sorted(map(self._finder(options).labels.index, labels))

    def _labels(
        self, reference: str, options: OptionTexts, *, integer: bool
    ) -> set[frozenset[str]]:
        exact = self._finder(options).exactly(reference)
        if exact:
            return {frozenset(exact)}
        return {frozenset((label,)) for label in gold_labels(reference, options, integer=integer)}

    def _finder(self, options: OptionTexts) -> LabelFinder:
        """The finder of the row's own labels, where they are others than those of the job."""
        own = tuple(options.texts)
        within = set(own) <= set(self.finder.labels)
        return self.finder if within else _finder_of(own, multiple=self.multiple)


_LONGEST_KEPT = 4096


# The metrics of one entry read the answers of a block one after the other, macro-F1 twice.
@lru_cache(maxsize=4096)
def _find_without_options(finder: LabelFinder, text: str) -> Chosen | None:
    return finder.find(text, {})


@lru_cache(maxsize=64)
def _finder_of(labels: tuple[str, ...], *, multiple: bool) -> LabelFinder:
    return LabelFinder(labels, multiple=multiple)


def _labels_in_order(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels for a list of options: beyond D follow E, F and so on, as in MMLU-Pro."""
    return LABELS if labels == LABELS[: len(labels)] else labels


@dataclass(frozen=True, slots=True)
class Choice:
    """1 if the response gives the label of any reference, or, of a multiple choice, exactly its labels."""

    spec: Spec
    reader: LabelReader

    def score(self, answer: Answer) -> Score:
        """Score an answer. A reference is a label, several, the text of an option, or its number from 0."""
        return _score(self.spec, self.reader, answer, lambda found, one: float(found == one))


@dataclass(frozen=True, slots=True)
class ChoiceF1:
    """F1 of the set of labels that the response gives and that of the nearest reference."""

    spec: Spec
    reader: LabelReader

    def score(self, answer: Answer) -> Score:
        return _score(self.spec, self.reader, answer, _set_f1)


@dataclass(frozen=True, slots=True)
class ChoiceMacroF1:
    """Macro-F1 of all rows, where the labels are classes. A row's own value is that of `Choice`."""

    spec: Spec
    reader: LabelReader

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes."""
        return self.reader.finder.labels

    @property
    def stats(self) -> tuple[str, ...]:
        return class_count_names(self.labels)

    def score(self, answer: Answer) -> Score:
        """Score an answer; `reference` and `answer` of the score are a cell of the confusion matrix."""
        return Choice(self.spec, self.reader).score(answer)

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        """The counts of `class_counts`; None exactly where `score` has no value."""
        score = self.score(answer)
        if score.value is None or score.reference is None:
            return None
        return class_counts(self.labels, score.reference, score.answer)

    def finalize(self, sums: Floats) -> Floats:
        """Convert sums of row statistics, float64 [..., 3 * labels], to macro-F1 [...]."""
        return macro_f1(sums)


def _score(
    spec: Spec,
    reader: LabelReader,
    answer: Answer,
    compare: Callable[[frozenset[str], frozenset[str]], float],
) -> Score:
    """Score an answer by its nearest reference; of equally near ones, the first in the order of the labels."""
    options = reader.options(answer)
    if options is None:
        return unscored(spec, "unparsed", "options")
    try:
        expected = reader.expected(answer, options)
    except AmbiguousReferenceError:
        return unscored(spec, "unparsed", "ambiguous_reference")
    if not expected:
        return unscored(spec, "unparsed", "reference")
    found = reader.given(answer, options)
    is_clear = found is not None and (reader.multiple or len(found.labels) == 1)
    labels = frozenset(found.labels) if found is not None and is_clear else frozenset[str]()
    in_order = sorted(expected, key=lambda one: reader.positions(one, options))
    nearest = max(in_order, key=lambda one: compare(labels, one))
    reference = reader.in_order(nearest, options)
    if found is None or not is_clear:
        missing = no_answer_found(spec, answer, found.rule if found else None)
        return replace(missing, reference=reference)
    value = compare(labels, nearest)
    return Score(spec.name, value, "ok", reader.in_order(labels, options), found.rule, reference)


def _set_f1(found: frozenset[str], expected: frozenset[str]) -> float:
    return 2 * len(found & expected) / (len(found) + len(expected))


def _choice(spec: Spec, options: ChoiceOptions) -> tuple[RowMetric, ...]:
    finder = LabelFinder(options.labels, multiple=options.multiple)
    reader = LabelReader(finder, options.options or "", options.multiple)
    exact = Choice(spec, reader)
    if options.multiple:
        return exact, ChoiceF1(spec.variant("f1"), reader)
    are_letters = options.labels == LABELS[: len(options.labels)]
    if are_letters or options.options is not None:
        return (exact,)
    return exact, ChoiceMacroF1(spec.variant("macro_f1"), reader)


CHOICE = MetricType(ChoiceOptions, _choice, needs="references", version=4)
