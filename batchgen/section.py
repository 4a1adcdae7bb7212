"""The base class of all sections of a job, the types that several sections use, and the role of a key."""

import math
import re
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

NonEmptyText = Annotated[str, Field(min_length=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Auto = Literal["auto"]


class Role(Enum):
    """What a key decides. The annotation of a key, or of a section for all of its keys, contains it; default: generation.

    A resumed run rejects another value of a `GENERATION` key and another content behind a `CONTENT` key.
    """

    GENERATION = "generation"
    """The value decides the answers."""
    CONTENT = "content"
    """What the value refers to decides the answers (a file, a model, the hash of a secret)."""
    PUBLICATION = "publication"
    """The value decides how answers are published: after a change, a run is published again."""
    EVALUATION = "evaluation"
    """The value decides scores: after a change, a run is scored again."""
    OPERATIONAL = "operational"
    """The value decides none of these: it may change between two starts of a run."""


def to_tuple(value: object) -> object:
    """Convert a list to a tuple."""
    return tuple(value) if isinstance(value, list) else value


AsTuple = BeforeValidator(to_tuple)
"""YAML has lists; a job holds tuples, so that it is immutable."""
NonEmptyTexts = Annotated[tuple[NonEmptyText, ...], AsTuple]


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    _check_finite(value)
    return value


def _check_finite(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("contains a number that is infinite or .nan; expected a finite number")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_finite(inner)


FreeMapping = Annotated[dict[str, Any], AfterValidator(_finite)]
"""A mapping whose keys and values are passed on unchanged."""

DURATION_PATTERN = r"^(\d{1,6}[dhms])+$"
"""Pattern of a length of time, such as `5h30m`."""
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_duration(duration: str) -> int:
    """Seconds of a text that matches `DURATION_PATTERN`."""
    parts = re.findall(r"(\d+)([dhms])", duration)
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)


class Section(BaseModel):
    """A mapping of the job file. Unknown keys are errors; values are immutable."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
