"""The base of every section of a job file, and the types of values that several sections use."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

NonEmptyText = Annotated[str, Field(min_length=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Auto = Literal["auto"]


def to_tuple(value: object) -> object:
    """Convert a list to a tuple."""
    return tuple(value) if isinstance(value, list) else value


AsTuple = BeforeValidator(to_tuple)
"""YAML makes lists; a job holds tuples, which nothing can change."""
NonEmptyTexts = Annotated[tuple[NonEmptyText, ...], AsTuple]


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    _refuse_infinite(value)
    return value


def _refuse_infinite(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that is infinite or .nan; expected a finite one")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _refuse_infinite(inner)


FreeMapping = Annotated[dict[str, Any], AfterValidator(_finite)]
"""Keys and values that are passed on as they are."""

DURATION_PATTERN = r"^(\d{1,6}[dhms])+$"
"""Pattern of a length of time, such as `5h30m`."""
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_duration(duration: str) -> int:
    """Seconds of a text that matches `DURATION_PATTERN`."""
    parts = re.findall(r"(\d+)([dhms])", duration)
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)


class Section(BaseModel):
    """A mapping of the job file. Unknown keys are errors; values never change afterwards."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )
