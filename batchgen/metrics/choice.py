"""Is the label that a response gives the right one. See `choice_rules.py` for how it is found."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchgen.metrics.base import Answer, Spec, no_answer_found, unscored
from batchgen.metrics.choice_rules import LabelFinder
from batchgen.metrics.texts import normalize
from batchgen.records import Score


@dataclass(frozen=True, slots=True)
class Choice:
    """1 if the response gives the label of any reference.

    Attributes:
        labels: what may be chosen.
        column: the input column with the texts of the options; empty if there is none.
    """

    spec: Spec
    labels: LabelFinder
    column: str

    def score(self, answer: Answer) -> Score:
        """1, or 0; a reference is a label, or the text of an option."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        if not answer.references:
            return unscored(self.spec, "no_reference")
        options = self._options(answer)
        expected = {self._label(reference, options) for reference in answer.references} - {None}
        if not expected:
            return unscored(self.spec, "unparsed", "reference")
        found = self.labels.find(answer.response, options)
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

    def _options(self, answer: Answer) -> Mapping[str, str]:
        if not self.column:
            return {}
        return options_of(answer.fields.get(self.column), self.labels.labels)


def options_of(cell: object, labels: Sequence[str]) -> Mapping[str, str]:
    """The texts of the options by label, from a list, a mapping of labels to texts, or JSON of either.

    A mapping of `text` and `label` to lists, as in ARC, will do as well. Anything else has no options.
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
