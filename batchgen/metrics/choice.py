"""Whether the response gives the right label of a multiple choice. `choice_rules.py` finds the label."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, no_answer_found, unscored
from batchgen.metrics.choice_rules import LabelFinder
from batchgen.metrics.text import normalize
from batchgen.records import Score
from batchgen.section import NonEmptyText, NonEmptyTexts


def _distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len({label.casefold() for label in labels}) < len(labels):
        raise ValueError("two labels differ only in case, or not at all")
    return labels


class ChoiceOptions(MetricOptions):
    """The response gives the label of the reference, such as B.

    Uses the last statement such as `the answer is B` or `答案：B`, else a label on its own, else the text of one option;
    never a capital letter within a sentence.
    """

    type: Literal["choice"] = "choice"
    labels: Annotated[NonEmptyTexts, Field(min_length=2), AfterValidator(_distinct)] = (
        "A",
        "B",
        "C",
        "D",
    )
    """The labels to choose from."""
    options: NonEmptyText | None = None
    """Column with the texts of the options: a list in the order of the labels, a mapping by label, or JSON of either."""


@dataclass(frozen=True, slots=True)
class Choice:
    """1 if the response gives the label of any reference. `column` has the texts of the options; empty for none."""

    spec: Spec
    labels: LabelFinder
    column: str

    def score(self, answer: Answer) -> Score:
        """Score an answer. A reference is a label, or the text of an option."""
        cell = answer.fields.get(self.column) if self.column else None
        options = options_of(cell, self.labels.labels)
        expected = {self._label(reference, options) for reference in answer.references} - {None}
        if not expected:
            return unscored(self.spec, "unparsed", "reference")
        found = self.labels.find(answer.text, options)
        if found is None or not found.label:
            return no_answer_found(self.spec, answer, found.rule if found else None)
        right = found.label in expected
        return Score(self.spec.name, float(right), "ok", found.label, found.rule)

    def _label(self, reference: str, options: Mapping[str, str]) -> str | None:
        label = self.labels.exactly(reference)
        if label is not None:
            return label
        form = normalize(reference)
        return next((one for one, option in options.items() if normalize(option) == form), None)


def options_of(cell: object, labels: Sequence[str]) -> Mapping[str, str]:
    """The texts of the options by label, from a list, a mapping of labels to texts, or JSON of either.

    A mapping of `text` and `label` to lists, as in ARC, works as well. Anything else gives no options.
    """
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return {}
    if isinstance(cell, Mapping):
        texts, named = cell.get("text"), cell.get("label")
        if isinstance(texts, Sequence) and isinstance(named, Sequence):
            return dict(zip(map(str, named), map(str, texts), strict=False))
        return {str(label): str(text) for label, text in cell.items()}
    if isinstance(cell, Sequence) and not isinstance(cell, str):
        return dict(zip(labels, map(str, cell), strict=False))
    return {}


CHOICE = MetricType(
    ChoiceOptions,
    lambda spec, o: Choice(spec, LabelFinder(o.labels), o.options or ""),
    needs="references",
)
