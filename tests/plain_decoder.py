"""A function from token ids to text as an `AnswerDecoder`, for tests whose tokens are no tokens of a tokenizer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PlainDecoder:
    """An answer's text does not depend on its prompt; `special_tokens` have no text."""

    text: Callable[[Sequence[int]], str]
    special_tokens: Mapping[int, str] = field(default_factory=dict)

    def __call__(
        self, token_ids: Sequence[int], prompt: Sequence[int] = (), *, special: bool = False
    ) -> str:
        del prompt
        if not self.special_tokens:
            return self.text(token_ids)
        runs: list[str] = []
        start = 0
        for place, token in enumerate(token_ids):
            if token in self.special_tokens:
                runs += [self.text(token_ids[start:place]), self.special_tokens[token] * special]
                start = place + 1
        return "".join([*runs, self.text(token_ids[start:])])

    def decode_complete(self, token_ids: Sequence[int], prompt: Sequence[int] = ()) -> str:
        return self(token_ids, prompt)

    def tokenizer_json(self) -> None:
        return None
