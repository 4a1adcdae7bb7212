"""The log-probabilities of a given text, from vLLM's log-probabilities of a prompt.

vLLM computes the logits of all prompt tokens of a step at once, in memory that it has not planned: few tokens are sent at a
time. It does not share contexts for them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.decoding_settings import AnswerGrammar
from batchgen.engines.vllm.answer_task import NONFINITE
from batchgen.engines.vllm.vllm_task import VllmOutput
from batchgen.errors import ModelError
from batchgen.records import Continuation, Failure, Likelihood

STEP_TOKENS = 2048
"""Texts are sent as long as fewer tokens are in flight: with 152,000 words, these have logits of 1.2 GB."""
_TOO_LONG = "the text leaves no room in the context window for another token, which vLLM needs"


@dataclass(frozen=True, slots=True)
class TextScore:
    """A continuation that vLLM scores."""

    continuation: Continuation

    @property
    def prompt(self) -> Sequence[int]:
        return [*self.continuation.context, *self.continuation.token_ids]

    @property
    def new_tokens(self) -> int:
        return 0

    @property
    def every_step(self) -> bool:
        return False

    @property
    def form(self) -> AnswerGrammar | None:
        return None

    @property
    def scored_tokens(self) -> int:
        return len(self.continuation.context) + len(self.continuation.token_ids)

    def settings(self) -> dict[str, Any]:
        """As of any task; vLLM always generates a token too."""
        return {"max_tokens": 1, "temperature": 0.0, "detokenize": False, "prompt_logprobs": 0}

    def refused(self) -> Sequence[Likelihood]:
        failure = Failure("continuation_too_long", _TOO_LONG)
        return [Likelihood(self.continuation.index, (), failure=failure)]

    def advance(self, output: VllmOutput) -> Sequence[Likelihood]:
        return [self._likelihood(output)]

    def _likelihood(self, output: VllmOutput) -> Likelihood:
        one, positions = self.continuation, output.prompt_logprobs
        if positions is None or len(positions) != self.scored_tokens:
            raise ModelError(
                "vLLM returned no log-probabilities of the prompt's tokens",
                hint="Report it to vLLM, and use another version of it.",
            )
        scored = positions[len(one.context) :]
        found = [(row or {})[token] for row, token in zip(scored, one.token_ids, strict=True)]
        logprobs = tuple(float(each.logprob) for each in found)
        if any(map(math.isnan, logprobs)):
            failure = Failure("nonfinite_logits", NONFINITE)
            return Likelihood(one.index, (), failure=failure)
        return Likelihood(one.index, logprobs, all(each.rank == 1 for each in found))
