"""How long the response is: characters, words, tokens of the model, sentences."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, unscored
from batchgen.metrics.sentences import split_sentences
from batchgen.metrics.text import split_words
from batchgen.records import Score
from batchgen.section import AsTuple


class LengthOptions(MetricOptions):
    """How long the response is."""

    type: Literal["length"] = "length"
    units: Annotated[
        tuple[Literal["characters", "words", "tokens", "sentences"], ...],
        AsTuple,
        Field(min_length=1),
    ] = ("characters",)
    """Each is a metric: `length_words`. A Chinese character is a word; tokens are the model's. A line break does not end a sentence; a blank line, a list item and a heading do."""


@dataclass(frozen=True, slots=True)
class Length:
    """A count of things in the response. Tokens are those that the model made, the end token included."""

    spec: Spec
    count: Callable[[Answer], int | None]

    def score(self, answer: Answer) -> Score:
        count = self.count(answer)
        if count is None:
            return unscored(self.spec, "skipped")
        return Score(self.spec.name, float(count), "ok")


_COUNTS: Mapping[str, Callable[[Answer], int | None]] = {
    "characters": lambda answer: len(answer.text.strip()),
    "words": lambda answer: len(split_words(answer.text)),
    "sentences": lambda answer: len(split_sentences(answer.text)),
    "tokens": lambda answer: answer.output_tokens,
}


LENGTH = MetricType(
    LengthOptions,
    lambda spec, o: tuple(Length(spec.variant(unit), _COUNTS[unit]) for unit in o.units),
    unit="count",
    higher_is_better=None,
    version=2,
)
