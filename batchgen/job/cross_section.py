"""The key `input.cross`: rows multiplied by lists of values, or values drawn for them."""

import math
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from batchgen.section import AsTuple, NonEmptyText, Section

CrossValue = NonEmptyText | int | float | bool


def _checked(values: Sequence[CrossValue]) -> Sequence[CrossValue]:
    """The values, if they are different and of one type."""
    kinds = {
        "text" if isinstance(v, str) else "a boolean" if isinstance(v, bool) else "a number"
        for v in values
    }
    if len(kinds) > 1:
        raise ValueError(
            f"the values are of different types: {' and '.join(sorted(kinds))}; use one type"
        )
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise ValueError("contains a number that is infinite or .nan; use finite numbers")
    if len(set(values)) < len(values):
        twice = next(value for value in values if list(values).count(value) > 1)
        raise ValueError(f"the value {twice} is listed twice; use each value once")
    return values


CrossValues = Annotated[
    tuple[CrossValue, ...], AsTuple, Field(min_length=1), AfterValidator(_checked)
]


class DrawnValues(Section):
    """Values of which each row gets one, drawn by `run.seed` and the row's id."""

    sample: CrossValues
    """The values."""
    weights: Annotated[tuple[Annotated[float, Field(gt=0)], ...], AsTuple] | None = None
    """One number above 0 for each value. Left out: all are equally likely."""

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.sample):
            raise ValueError(
                f"weights has {len(self.weights)} numbers for {len(self.sample)} values; give one number for each value"
            )
        return self


def _named(columns: dict[str, CrossValues | DrawnValues]) -> dict[str, CrossValues | DrawnValues]:
    if not columns or "" in columns:
        raise ValueError(
            "expected one or more names of columns with their values; give, for example, {lang: [en, zh]}"
        )
    return columns


Cross = Annotated[dict[str, CrossValues | DrawnValues], AfterValidator(_named)]
"""Values by the name of the new column."""
