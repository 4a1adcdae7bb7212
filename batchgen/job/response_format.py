"""The section `decoding.response_format`: the form that every answer has."""

from typing import Annotated, Self, get_args

from pydantic import Field, field_validator, model_validator

from batchgen.decoding_settings import GrammarKind
from batchgen.section import FreeMapping, NonEmptyText, NonEmptyTexts, Section

FORMS: tuple[GrammarKind, ...] = get_args(GrammarKind)
_OF_COLUMNS = ("json_schema", "regex", "choice", "grammar")


class ResponseFormat(Section):
    """The form of every answer: tokens that would leave it are never chosen. One of the first five keys, or `columns`.

    Needs llguidance (extra `structured`). JSON is written without optional white space, with properties in the order of the
    schema. An answer ends as soon as it is complete. One that reaches `max_new_tokens` before that is kept as it is: give texts
    and lists of a schema `maxLength` and `maxItems`. Examples: `jobs/customer_service` (letters to typed columns by a schema, with
    `output.parse`) and `jobs/medical` (urgency by `choice`), both with a gate on validity.

    Every token is chosen by the model, also one that the form forces: to append these without a step (fast-forward) could write
    an answer in other tokens than the model's. It was measured, and is absent: 64 letters with the schema of
    jobs/customer_service and at most 160 new tokens took the demo model 1.08 times as long without it, an object of four fields
    1.2 times (best of two). Not with `min_new_tokens`, `stop_strings`, `no_repeat_ngram_size`, `num_beams` and
    `generation_kwargs`. With engine openai, the server enforces the form, and finished answers are checked; see Servers.
    """

    json_schema: FreeMapping | NonEmptyText | None = None
    """A JSON Schema, or the path of a file with one. `validate` reports what cannot be enforced, such as `uniqueItems`."""
    json_object: bool = False
    """Any JSON object."""
    regex: NonEmptyText | None = None
    """A regular expression that the whole answer matches, without look-around or back-references. `\\d`, `\\w` and `\\s` match
    characters of every script: for digits 0 to 9 write `[0-9]`."""
    choice: Annotated[NonEmptyTexts, Field(max_length=10_000)] = ()
    """One of these texts, exactly. Of at most 32, the one that the model most likely begins (or one that is sampled, with
    `temperature`, `top_k`, `top_p` and `min_p` applied to the texts): each counts by its tokens up to the first one with which
    no other text begins, so an answer costs hardly more than its prompt. With `after`, `repetition_penalty` or `logprobs: N`,
    and of more texts, the answer is generated token by token."""
    grammar: NonEmptyText | None = None
    """A context-free grammar in Lark's notation, as llguidance reads it; its first rule is `start`."""
    columns: dict[str, NonEmptyText] = Field(default_factory=dict)
    """The form of each row from a column, such as `{choice: labels}`: of json_schema, regex, choice or grammar. JSON schemas are
    texts; labels are a list, or a text with a JSON list. Null: the job's own form, or none. A cell that is not a form fails its
    row; `plan` and `run` warn of forms in the first 256 rows for which they find no answer that ends."""
    after: NonEmptyText | None = None
    """The form begins after this text, such as `</think>`; what comes before it is free, but no answer ends there."""

    @field_validator("choice")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("contains a text twice; remove one of them")
        return value

    @field_validator("columns")
    @classmethod
    def _one_column(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := ", ".join(sorted(set(value) - set(_OF_COLUMNS))):
            raise ValueError(f"{unknown}: expected one of {', '.join(_OF_COLUMNS)}")
        if len(value) > 1:
            raise ValueError("names several columns, expected one; remove the others")
        return value

    @property
    def form(self) -> GrammarKind | None:
        """The key that defines the form of rows without one of their own."""
        return next(iter(self._forms()), None)

    def _forms(self) -> list[GrammarKind]:
        # An empty schema is a form: any JSON value.
        return [name for name in FORMS if getattr(self, name) not in (None, (), False)]

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = self._forms()
        if len(forms) > 1:
            raise ValueError(
                f"{forms[1]} cannot be combined with {forms[0]}: an answer has one form; remove one of them"
            )
        if not forms and not self.columns:
            raise ValueError(f"defines no form; set one of {', '.join(FORMS)} or columns")
        return self
