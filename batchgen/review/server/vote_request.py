"""What the page sends for a vote. The server adds what the vote is about, the time, and which answer was shown first."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from batchgen.feedback.vote import Choice, Kind, Reviewer, VoteId

_MAX_TEXT = 1_000_000
Place = Literal["a", "b"]
"""Of an answer on the page: A is on the left, or above."""


class VoteRequest(BaseModel):
    """A vote about the answer with the number `n` in the queue.

    Attributes:
        choice: by the places on the page.
        place: which of two answers an edit or a flag is about.
        shown_metrics: whether the scores were visible.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    reviewer: Reviewer
    n: Annotated[int, Field(ge=0)]
    vote_id: VoteId
    kind: Kind
    value: bool | int | None = None
    labels: list[str] | None = None
    choice: Choice | None = None
    place: Place | None = None
    comment: Annotated[str, Field(max_length=_MAX_TEXT)] | None = None
    edited_text: Annotated[str, Field(max_length=_MAX_TEXT)] | None = None
    undoes: VoteId | None = None
    shown_metrics: bool = False
    dwell_ms: Annotated[int, Field(ge=0)] | None = None


Refusal = Literal["vote", "number", "undo", "reviewer"]
"""Why a request is rejected; the page words it in the language of the reviewer."""


class RejectedError(ValueError):
    """A request that is not a vote about this queue. Its text quotes nothing of the request."""

    def __init__(self, text: str, code: Refusal = "vote") -> None:
        """Keep the code next to the text, which is English."""
        super().__init__(text)
        self.code = code


def parse_request(body: bytes) -> VoteRequest:
    """Read a request. RejectedError with its problems."""
    try:
        return VoteRequest.model_validate_json(body)
    except ValidationError as error:
        raise RejectedError(describe_problems(error)) from None


_WORDS: Mapping[str, str] = {
    "json_invalid": "the request is not JSON",
    "model_type": "expected an object",
    "missing": "is missing",
    "extra_forbidden": "is not a field of a vote",
    "literal_error": "expected {expected}",
    "string_too_long": f"longer than {_MAX_TEXT:,} characters",
    "string_too_short": "is empty",
    "string_pattern_mismatch": "expected 32 hexadecimal digits",
    "string_type": "expected a text",
    "int_type": "expected a whole number",
    "bool_type": "expected true or false",
    "list_type": "expected a list",
    "greater_than_equal": "expected at least {ge}",
}
"""Problems by the types that pydantic names; its own texts address programmers."""


def describe_problems(error: ValidationError) -> str:
    """The problems in one line, without the values."""
    details = error.errors(include_url=False, include_input=False)
    return "; ".join(map(_problem, details))


def _problem(detail: ErrorDetails) -> str:
    place = ".".join(str(one) for one in detail["loc"] if one not in ("int", "bool"))
    if detail["type"] == "value_error":
        words = detail["msg"].removeprefix("Value error, ")
    else:
        words = _WORDS.get(detail["type"], "is not valid").format(**detail.get("ctx", {}))
    return f"{place}: {words}" if place else words
