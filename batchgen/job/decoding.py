"""The section `decoding`: how tokens are chosen."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from batchgen.job.response_format import ResponseFormat
from batchgen.section import (
    FreeMapping,
    NonEmptyText,
    NonEmptyTexts,
    PositiveInt,
    Section,
    to_tuple,
)

MOST_TOP_LOGPROBS = 20
"""Most tokens whose log-probabilities are recorded at each position of an answer, as in OpenAI's API."""
OVERRIDABLE = (
    *("max_new_tokens", "min_new_tokens", "temperature", "top_p", "top_k", "min_p"),
    *("repetition_penalty", "no_repeat_ngram_size"),
)
"""Decoding settings that `decoding.columns` may take from a column of the input."""


class Decoding(Section):
    """How tokens are chosen. Greedy by default; the names are those of `GenerationConfig`."""

    preset: Literal["greedy", "model"] = "greedy"
    """Defaults of the other keys. model: the model's generation_config.json, then greedy."""
    max_new_tokens: PositiveInt = 256
    """Maximum length of an answer, in tokens. Also `max_tokens`, `max_completion_tokens`."""
    min_new_tokens: Annotated[int, Field(ge=0)] | None = None
    """No end token is generated among this many tokens, and a stop string that ends within them does not count."""
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    """Above 0: sample at random, by `run.seed`. 0: greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Sample from the most likely tokens that together reach this probability."""
    top_k: Annotated[int, Field(ge=0)] | None = None
    """Sample from the k most likely tokens."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Sample from tokens at least this likely, relative to the most likely one."""
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    """Above 1, tokens of the prompt and the answer become less likely (Keskar et al. 2019)."""
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] | None = None
    """No sequence of this many tokens occurs twice."""
    num_beams: Annotated[int, Field(ge=1, le=64)] = 1
    """Above 1: beam search, with `model.generate`."""
    length_penalty: Annotated[float, Field(ge=-10, le=10)] | None = None
    """For beam search: above 0 favours longer answers."""
    stop_strings: NonEmptyTexts = ()
    """The answer ends before the first of these in the new text. The name of a special token also matches that
    token. A single text needs no list. Also `stop`."""
    num_return_sequences: Annotated[int, Field(ge=1, le=1024)] = 1
    """Answers per row. Each is a row of the output. Also `n`."""
    logprobs: bool | Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] = False
    """true: write the column `logprob_mean`. A number: also the column `logprobs`, a list with the id, text and log-probability of each
    token and, as `top_logprobs`, of this many most likely tokens at its position; 0: of the token only."""
    response_format: ResponseFormat | None = None
    columns: dict[str, NonEmptyText] = Field(default_factory=dict)
    """Take a setting from a column of the input where it is not null: `{temperature: temp_col}`. Allowed for
    max_new_tokens, min_new_tokens, temperature, top_p, top_k, min_p, repetition_penalty, no_repeat_ngram_size."""
    generation_kwargs: FreeMapping = Field(default_factory=dict)
    """Other `GenerationConfig` fields; the job then uses `model.generate`."""

    @field_validator("stop_strings", mode="before")
    @classmethod
    def _one_stop_string(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else to_tuple(value)

    @field_validator("columns")
    @classmethod
    def _only_overridable(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := ", ".join(sorted(set(value) - set(OVERRIDABLE))):
            can = ", ".join(OVERRIDABLE)
            raise ValueError(f"{unknown} cannot come from a column; these can: {can}")
        return value

    @property
    def may_sample(self) -> bool:
        """Whether any row may be sampled at random."""
        return bool(self.temperature) or self.preset == "model" or "temperature" in self.columns

    @field_validator("generation_kwargs")
    @classmethod
    def _no_second_place(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in cls.model_fields:
                raise ValueError(f"{name} has its own key: decoding.{name}")
            if name == "do_sample":
                raise ValueError("do_sample follows from decoding.temperature; leave it out")
        return value

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Self:
        if not self.may_sample:
            self._greedy()
        if self.num_beams > 1:
            self._beams()
        elif self.length_penalty is not None:
            raise ValueError("length_penalty has no effect without num_beams above 1")
        if self.min_new_tokens is not None:
            self._at_most("min_new_tokens", "max_new_tokens")
        return self

    def _at_most(self, name: str, limit: str) -> None:
        value, most = getattr(self, name), getattr(self, limit)
        if value > most:
            raise ValueError(f"{name}: {value} is more than {limit}: {most}")

    def _greedy(self) -> None:
        for name in ("top_p", "top_k", "min_p"):
            if getattr(self, name) is not None or name in self.columns:
                reason = "decoding is greedy; set a temperature above 0"
                raise ValueError(f"{name} has no effect: {reason}")
        if self.num_beams > 1:
            self._at_most("num_return_sequences", "num_beams")
        elif self.num_return_sequences > 1:
            raise ValueError(
                f"num_return_sequences: {self.num_return_sequences} with greedy decoding would write the same "
                "text several times; set a temperature above 0"
            )

    def _beams(self) -> None:
        if self.temperature or "temperature" in self.columns:
            reason = "beam search is greedy"
            raise ValueError(f"num_beams above 1 cannot be combined with a temperature: {reason}")
        self._at_most("num_return_sequences", "num_beams")
