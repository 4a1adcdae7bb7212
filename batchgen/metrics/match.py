"""Is the response one of the references: letter by letter, or but for case, width, punctuation and spaces."""

from collections.abc import Callable
from dataclasses import dataclass

from batchgen.metrics.base import Answer, Spec, no_answer_found, stored_form, unscored
from batchgen.records import Score


@dataclass(frozen=True, slots=True)
class Match:
    """1 if the response, in the form that is compared, is one of the references in the same form.

    Attributes:
        form: text to the form that is compared; an empty form is no answer.
    """

    spec: Spec
    form: Callable[[str], str]

    def score(self, answer: Answer) -> Score:
        """1, or 0."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        if not answer.references:
            return unscored(self.spec, "no_reference")
        found = self.form(answer.response)
        if not found:
            return no_answer_found(self.spec, answer)
        right = any(found == self.form(reference) for reference in answer.references)
        return Score(self.spec.name, float(right), "ok", stored_form(found))
