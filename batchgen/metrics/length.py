"""How long the response is: characters, words, tokens of the model, sentences."""

from collections.abc import Callable
from dataclasses import dataclass

from batchgen.metrics.base import Answer, Spec, unscored
from batchgen.metrics.texts import split_sentences, split_words
from batchgen.records import Score


@dataclass(frozen=True, slots=True)
class Length:
    """A count of things in the response; an empty response has none of them."""

    spec: Spec
    count: Callable[[str], int]

    def score(self, answer: Answer) -> Score:
        """The count."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        return Score(self.spec.name, float(self.count(answer.response)), "ok")


@dataclass(frozen=True, slots=True)
class TokenLength:
    """Tokens that the model made, the end token included."""

    spec: Spec

    def score(self, answer: Answer) -> Score:
        """The count, where the engine told it."""
        if answer.response is None or answer.output_tokens is None:
            return unscored(self.spec, "skipped")
        return Score(self.spec.name, float(answer.output_tokens), "ok")


def count_characters(text: str) -> int:
    """Code points, without white space at the ends."""
    return len(text.strip())


def count_words(text: str) -> int:
    """Words; a Chinese character is one."""
    return len(split_words(text))


def count_sentences(text: str) -> int:
    """Sentences."""
    return len(split_sentences(text))
