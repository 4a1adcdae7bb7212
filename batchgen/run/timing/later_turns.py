"""Turns of conversations before their answers are known: their prompts are longer than what can be rendered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from batchgen.records import Request

BYTES_PER_TOKEN = 4
"""Of English text; without a tokenizer there is nothing better."""
_UNKNOWN = 0
"""Stands for each token of an answer that is not known."""


@dataclass(frozen=True, slots=True)
class UnaskedTurns:
    """The turns that are asked after answers of the model.

    Attributes:
        answers_before: by index of the row, the number of those answers.
        counts_tokens: whether prompts are counted in tokens; otherwise in bytes.
    """

    answers_before: Mapping[int, int] = field(default_factory=dict)
    counts_tokens: bool = True

    def lengthened(self, requests: Iterable[Request], mean: float | None) -> list[Request]:
        """The requests, with the length that they will have; `mean` tokens of an answer, or `max_new_tokens` if that is None."""
        return [self._lengthened(request, mean) for request in requests]

    def first_turns(self, requests: Iterable[Request]) -> list[Request]:
        """The requests whose prompts are known whole."""
        return [request for request in requests if request.index not in self.answers_before]

    def too_long(self, requests: Sequence[Request], context_length: int) -> int:
        """How many lengthened requests, with their answers, are longer than the context."""
        later = (request for request in requests if request.index in self.answers_before)
        scale = 1 if self.counts_tokens else BYTES_PER_TOKEN
        lengths = (len(one.token_ids) // scale + one.decoding.max_new_tokens for one in later)
        return sum(length > context_length for length in lengths)

    def _lengthened(self, request: Request, mean: float | None) -> Request:
        answers = self.answers_before.get(request.index, 0)
        if not answers:
            return request
        tokens = answers * (request.decoding.max_new_tokens if mean is None else mean)
        more = round(tokens if self.counts_tokens else tokens * BYTES_PER_TOKEN)
        return replace(request, token_ids=[*request.token_ids, *[_UNKNOWN] * more])


NO_UNASKED_TURNS = UnaskedTurns()
