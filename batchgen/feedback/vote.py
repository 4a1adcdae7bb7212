"""A vote: one judgement of one person about one answer. Votes are never changed or removed: to undo is a vote too.

rating | pass      value            label    labels          edit    edited_text
pair               choice, other_*, shown_first              flag, comment, skip
undo               undoes
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

Kind = Literal["rating", "pass", "label", "pair", "edit", "flag", "comment", "skip", "undo"]
Choice = Literal["a", "b", "tie", "both_bad"]
"""`a` is the answer of `run_id`, `b` that of `other_run_id`, wherever they were shown."""
Shown = Literal["run", "other"]

RATING = range(1, 6)
"""The values of a rating."""

_HEX_32 = r"^[0-9a-f]{32}$"
_HEX_64 = r"^[0-9a-f]{64}$"
_NO_NAME = re.compile(r"""[/\\:*?"<>|]|^[. -]|[. ]$""")
_LONGEST_NAME = 100
"""Bytes of UTF-8: file systems allow 255 for a name."""


def _check_reviewer(name: str) -> str:
    fits = 0 < len(name.encode("utf-8", "replace")) <= _LONGEST_NAME
    if not fits or not name.isprintable() or _NO_NAME.search(name):
        raise ValueError(
            'expected a name that can name a file: up to 100 bytes, none of / \\ : * ? " < > |, no control characters, '
            "no dot or space first or last, no - first"
        )
    return unicodedata.normalize("NFC", name)


def _to_utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


Reviewer = Annotated[str, AfterValidator(_check_reviewer)]
Text = Annotated[str, Field(min_length=1)]
VoteId = Annotated[str, Field(pattern=_HEX_32)]
ResponseSha = Annotated[str, Field(pattern=_HEX_64)]
SampleNumber = Annotated[int, Field(ge=0)]

_PAIR = ("choice", "other_run_id", "other_sample", "other_response_sha", "shown_first")
_REQUIRED: dict[Kind, tuple[str, ...]] = {
    "rating": ("value",),
    "pass": ("value",),
    "label": ("labels",),
    "pair": _PAIR,
    "edit": ("edited_text",),
    "flag": (),
    "comment": ("comment",),
    "skip": (),
    "undo": ("undoes",),
}
_OPTIONAL: dict[Kind, tuple[str, ...]] = {"flag": ("labels",)}
_OF_KINDS = ("value", "labels", *_PAIR, "edited_text", "undoes")
"""The fields that only some kinds have."""


class Vote(BaseModel):
    """One vote. Unknown keys are errors; values are immutable.

    Attributes:
        id: of the row.
        response_sha: SHA-256 of the text of the response, see `response_sha`; a vote about an answer that has changed is known by it.
        value: 1 to 5 of a rating, true or false of a pass.
        labels: of the answer; of a flag, why.
        shown_first: which answer of a pair was on the left, or above.
        blind: whether the reviewer could not see which run an answer is from, nor its scores.
        undoes: the vote that no longer counts; of the same reviewer.
        dwell_ms: milliseconds that the answer was shown before the vote.
        rubric: the rubric, or the one criterion of it, that the value is about.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    vote_id: VoteId
    time: Annotated[AwareDatetime, AfterValidator(_to_utc)]
    reviewer: Reviewer
    run_id: Text
    id: str
    sample: SampleNumber = 0
    response_sha: ResponseSha
    kind: Kind
    value: bool | int | None = None
    labels: list[Text] | None = None
    choice: Choice | None = None
    other_run_id: Text | None = None
    other_sample: SampleNumber | None = None
    other_response_sha: ResponseSha | None = None
    shown_first: Shown | None = None
    blind: bool = False
    comment: str | None = None
    edited_text: str | None = None
    undoes: VoteId | None = None
    dwell_ms: Annotated[int, Field(ge=0)] | None = None
    rubric: Text | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        required = _REQUIRED[self.kind]
        missing = [name for name in required if getattr(self, name) in (None, [])]
        allowed = {*required, *_OPTIONAL.get(self.kind, ())}
        foreign = [n for n in _OF_KINDS if n not in allowed and getattr(self, n) is not None]
        if missing:
            raise ValueError(f"a vote of the kind {self.kind} needs {', '.join(missing)}")
        if foreign:
            raise ValueError(f"a vote of the kind {self.kind} does not have {', '.join(foreign)}")
        if self.kind == "rating" and (self.value is True or self.value not in RATING):
            raise ValueError("the value of a rating is a whole number from 1 to 5")
        if self.kind == "pass" and not isinstance(self.value, bool):
            raise ValueError("the value of a pass is true or false")
        if self.kind == "comment" and not (self.comment or "").strip():
            raise ValueError("a comment is empty")
        return self

    @property
    def subject(self) -> tuple[str | int, ...]:
        """Equal for two votes of which the later one replaces the earlier one."""
        other = (self.other_run_id or "", -1 if self.other_sample is None else self.other_sample)
        unique = (self.vote_id,) if self.kind in ("comment", "flag") else ()
        what = (self.reviewer, self.run_id, self.id, self.sample, self.kind, self.rubric or "")
        return (*what, *other, *unique)

    def to_line(self) -> str:
        """The vote as a line of JSON, with its end. Fields without a value are left out."""
        return self.model_dump_json(exclude_none=True) + "\n"


def parse_vote(line: str | bytes) -> Vote:
    """Read a vote from a JSON object.

    Raises:
        ValueError: with all problems in one line; the texts of the vote are not quoted.
    """
    try:
        return Vote.model_validate_json(line)
    except ValidationError as error:
        raise ValueError("; ".join(map(_problem, error.errors(include_url=False)))) from None


def _problem(detail: ErrorDetails) -> str:
    field = ".".join(map(str, detail["loc"]))
    message = detail["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message


def response_sha(response: str | None) -> str:
    """SHA-256 of the text of a response, as votes have it. A row without an answer counts as an empty one."""
    return hashlib.sha256((response or "").encode("utf-8", "surrogatepass")).hexdigest()


def standing_votes(votes: Iterable[Vote]) -> list[Vote]:
    """The votes that count, in the order of their times.

    Not those that their reviewer has undone (to undo an undo restores a vote), nor those that a later one of the same
    reviewer about the same replaces.
    """
    undone: set[tuple[str, str | None]] = set()
    replaced: set[tuple[str | int, ...]] = set()
    standing = []
    for vote in sorted(votes, key=lambda vote: vote.time)[::-1]:
        if (vote.reviewer, vote.vote_id) in undone:
            continue
        if vote.kind == "undo":
            undone.add((vote.reviewer, vote.undoes))
        elif vote.subject not in replaced:
            replaced.add(vote.subject)
            standing.append(vote)
    return standing[::-1]
