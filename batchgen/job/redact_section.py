"""The section `redact`: which personal data is removed from which text."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from batchgen.privacy.recognizers import PiiKind
from batchgen.section import AsTuple, NonEmptyTexts, Role, Section


class Redact(Section):
    """Removal of personal data from text. Without this section nothing is removed; `redact: {}` removes all kinds.

    The model sees, and the output stores, only redacted text. Matches are found by pattern and, where defined, check digit.
    Names, addresses and numbers with a wrong digit are not found.
    """

    entities: Annotated[tuple[PiiKind, ...], AsTuple, Field(min_length=1)] | Literal["all"] = "all"
    """Kinds to remove."""
    apply_to: Annotated[tuple[Literal["input", "response"], ...], AsTuple, Field(min_length=1)] = (
        "input",
        "response",
    )
    """input: cells of the input, but not the text of the templates. response: answers and their reasoning."""
    replacement: Literal["placeholder", "hash", "mask"] = "placeholder"
    """placeholder: `[EMAIL]`. hash: `[EMAIL:...]`, the same for the same value. mask: stars; the last digits of a number stay."""
    columns: NonEmptyTexts | None = None
    """Input columns to redact; they must contain text. Left out: all columns of text; numbers and dates are not redacted."""
    secret: Annotated[str | None, Role.CONTENT] = None
    """Key of the hashes, at least 16 characters, such as `${env:REDACT_SECRET}`. With the key, a guessed value can be verified. Only for hash."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.replacement == "hash" and len(self.secret or "") < 16:
            raise ValueError(
                "replacement: hash needs redact.secret, at least 16 characters, such as "
                "${env:REDACT_SECRET}: without it, hashed telephone numbers could be found by trial"
            )
        if self.replacement != "hash" and self.secret is not None:
            raise ValueError(f"redact.secret has no effect with replacement: {self.replacement}")
        if self.columns is not None and "input" not in self.apply_to:
            raise ValueError("redact.columns has no effect without input in redact.apply_to")
        return self
