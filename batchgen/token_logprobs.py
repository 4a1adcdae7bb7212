"""Log-probabilities of single tokens, as an engine records them with an answer."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities at each position of an answer: of its token, then of the most likely tokens.

    The arrays are flat: `width` entries for each position. 8 bytes an entry, and 8 more with texts.

    Attributes:
        width: 1 for the token of the answer, and 1 for each of the most likely tokens, which may include it.
        logprobs: float32, natural, under the model's unmodified distribution; the most likely token first.
        token_ids: int32; empty where they are withheld.
        texts: of the tokens, once they are known; empty where they are withheld.
    """

    width: int
    logprobs: "array[float]"
    token_ids: "array[int]"
    texts: Sequence[str] = ()

    @property
    def positions(self) -> int:
        return len(self.logprobs) // self.width
