"""What the page sends for a vote. The server adds what the vote is about, the time, and which answer was shown first."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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


class RejectedError(ValueError):
    """A request that is not a vote about this queue. Its text quotes nothing of the request."""


def parse_request(body: bytes) -> VoteRequest:
    """Read a request. RejectedError with its problems."""
    try:
        return VoteRequest.model_validate_json(body)
    except ValidationError as error:
        raise RejectedError(describe_problems(error)) from None


def describe_problems(error: ValidationError) -> str:
    """The problems in one line, without the values."""
    details = error.errors(include_url=False, include_input=False)
    return "; ".join(_problem(one) for one in details)


def _problem(detail: Any) -> str:  # noqa: ANN401  # a TypedDict of pydantic_core
    place = ".".join(map(str, cast(Sequence[str | int], detail["loc"])))
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
