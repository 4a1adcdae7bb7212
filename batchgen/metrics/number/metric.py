"""Is the number that an answer gives the reference's."""

from dataclasses import dataclass
from fractions import Fraction

from batchgen.metrics.base import Answer, Spec, no_answer_found, unscored
from batchgen.metrics.number.reading import Number, format_number
from batchgen.metrics.number.rules import Ambiguous, AnswerFormat, Pick, find_number
from batchgen.records import Score


@dataclass(frozen=True, slots=True)
class NumberMatch:
    """1 if the number of the response is that of any reference.

    A reference is read by the same rules, so that whole solutions (`... #### 18`) will do.

    Attributes:
        tolerance: largest difference that still counts as equal.
        pick: which number, where several are marked in the same way.
        mark: how the number of a response has to be marked; that of a reference may be marked in any way.
    """

    spec: Spec
    tolerance: Fraction = Fraction(0)
    pick: Pick = "last"
    mark: AnswerFormat = "any"

    def score(self, answer: Answer) -> Score:
        """1, or 0."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        if not answer.references:
            return unscored(self.spec, "no_reference")
        expected = [n for n in map(_number, answer.references) if n is not None]
        if not expected:
            return unscored(self.spec, "unparsed", "reference")
        found = find_number(answer.response, self.pick, self.mark)
        if found is None or isinstance(found.number, Ambiguous):
            return no_answer_found(self.spec, answer, found.rule if found else None)
        right = any(numbers_equal(found.number, one, self.tolerance) for one in expected)
        return Score(self.spec.name, float(right), "ok", format_number(found.number), found.rule)


def _number(reference: str) -> Number | None:
    found = find_number(reference)
    return found.number if found and isinstance(found.number, Number) else None


def numbers_equal(left: Number, right: Number, tolerance: Fraction) -> bool:
    """Whether two numbers are equal; where only one has a percent sign, 50% is both 50 and 0.5."""
    if left.value == right.value or (
        tolerance and abs(Fraction(left.value) - right.value) <= tolerance
    ):
        return True
    if left.percent == right.percent:
        return False
    percent, bare = (left, right) if left.percent else (right, left)
    return abs(Fraction(percent.value) / 100 - bare.value) <= tolerance
