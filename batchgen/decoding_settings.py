"""The resolved decoding settings of one request, and the grammar of its answer."""

from dataclasses import dataclass
from typing import Literal

GrammarKind = Literal["json_schema", "json_object", "regex", "choice", "grammar"]
"""The keys of `decoding.response_format` that define an answer's form."""


@dataclass(frozen=True, slots=True)
class AnswerGrammar:
    """The form that an answer must have.

    Attributes:
        text: the JSON Schema as compact JSON, the regular expression, the labels as a JSON list, or the Lark grammar.
        after: the text after which the grammar begins; empty: at once.
    """

    kind: GrammarKind
    text: str
    after: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedDecoding:
    """Decoding settings of one request. Neutral values switch a setting off.

    Attributes:
        temperature: 0 is greedy: the most likely token.
        top_k: 0 keeps every token.
        num_beams: 1 switches beam search off.
        top_logprobs: most likely tokens that are recorded at each position; None records no position, only the mean.
        end_token_ids: each of these ends the answer and is not part of its text.
        generation_kwargs: further `GenerationConfig` fields, sorted by name; only plain `generate` supports them.
        grammar: only tokens that it allows are chosen; None allows all.
    """

    max_new_tokens: int = 256
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    stop_strings: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int | None = None
    end_token_ids: frozenset[int] = frozenset()
    generation_kwargs: tuple[tuple[str, object], ...] = ()
    grammar: AnswerGrammar | None = None

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0
