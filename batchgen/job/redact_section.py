"""The section `redact`: which personal data is taken out of which text. See `spec.py` for the rest of a job."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from batchgen.privacy.recognizers import PiiKind
from batchgen.section import AsTuple, NonEmptyTexts, Section

MIN_SECRET_LENGTH = 16
"""Fewest characters of a secret: less could be tried out."""


class Redact(Section):
    """Personal data that is taken out of text. Without this section, none is; `redact: {}` takes out all kinds.

    Redacted text is all that the model sees and all that is stored. Findings are told by their form and by their check digits,
    where there are any: names, addresses, and a number with a digit wrong, are not found.
    """

    entities: Annotated[tuple[PiiKind, ...], AsTuple, Field(min_length=1)] | Literal["all"] = "all"
    """Kinds to take out."""
    apply_to: Annotated[tuple[Literal["input", "response"], ...], AsTuple, Field(min_length=1)] = (
        "input",
        "response",
    )
    """input: cells, before the model or the output gets them; never the templates' own text. response: answers and their reasoning."""
    style: Annotated[Literal["placeholder", "hash", "mask"], Field(alias="with")] = "placeholder"
    """placeholder: `[EMAIL]`. hash: `[EMAIL:...]`, the same for the same value. mask: stars, and the end of a number."""
    columns: NonEmptyTexts | None = None
    """Input columns to look at, with text in them. Left out: all that hold text; numbers and dates are not looked at."""
    secret: str | None = None
    """Key of the hashes, 16 characters or more, such as `${env:REDACT_SECRET}`: whoever has it can test a guess. Only for hash."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.style == "hash" and len(self.secret or "") < MIN_SECRET_LENGTH:
            raise ValueError(
                f"with: hash needs redact.secret, {MIN_SECRET_LENGTH} characters or more, such as "
                "${env:REDACT_SECRET}: without one, all telephone numbers can be tried out"
            )
        if self.style != "hash" and self.secret is not None:
            raise ValueError(f"redact.secret has no effect with: {self.style}")
        if self.columns is not None and "input" not in self.apply_to:
            raise ValueError("redact.columns has no effect without input in redact.apply_to")
        return self
