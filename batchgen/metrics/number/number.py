"""Whether the number that the response gives is that of the reference."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, no_answer_found, unscored
from batchgen.metrics.number.expressions import Unreadable
from batchgen.metrics.number.reading import Number, format_number
from batchgen.metrics.number.rules import AnswerFormat, Pick, find_number
from batchgen.records import Score


class NumberOptions(MetricOptions):
    r"""The number that the response gives equals the reference's, exactly.

    Reads `$1,234.50`, `50%`, `1/2`, `½`, `１８`, `十八`, `3万5千`, `2.5M`, `twenty-five`, `7 / 2`, `10^{-3}`, `\boxed{18}`,
    `#### 18`; takes the number that is marked as the answer, else the last one. 50% equals 50 and 0.5. An answer that is more
    than a number and a unit, such as `3\sqrt{2}` or `(3, 4)`, has the status `unparsed` and the value 0: see `math_equal`.
    """

    type: Literal["number"] = "number"
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Largest difference that still counts as equal."""
    pick: Pick = "last"
    """Which one, where several numbers are marked in the same way."""
    answer_format: AnswerFormat = "any"
    r"""hash: only a number after `####`, the strict rule of GSM8K. boxed: only one in `\boxed{}`."""


@dataclass(frozen=True, slots=True)
class NumberMatch:
    """1 if the number of the response is that of any reference.

    References are read by the same rules, so that whole solutions (`... #### 18`) work; `answer_format` applies to
    responses only.
    """

    spec: Spec
    options: NumberOptions

    def score(self, answer: Answer) -> Score:
        expected = [n for n in map(_number, answer.references) if n is not None]
        if not expected:
            return unscored(self.spec, "unparsed", "reference")
        found = find_number(answer.text, self.options.pick, self.options.answer_format)
        if found is not None and isinstance(found.number, Unreadable):
            # An answer, but none that equals a number: wrong, not left out.
            return Score(self.spec.name, 0.0, "unparsed", None, found.rule)
        if found is None or not isinstance(found.number, Number):
            return no_answer_found(self.spec, answer, found.rule if found else None)
        tolerance = Fraction(str(self.options.tolerance))  # the decimal form: 0.1 means a tenth
        right = any(numbers_equal(found.number, one, tolerance) for one in expected)
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


NUMBER = MetricType(NumberOptions, NumberMatch, needs="references", version=3)
