"""Collects the tokens of one request and builds its completion."""

from array import array
from collections.abc import Sequence

from batchgen.decoding.stopping import Stopper
from batchgen.engines.torch.token_chooser import MostLikely, SampledBatch
from batchgen.records import (
    AnswerDecoder,
    Completion,
    Failure,
    FinishReason,
    Request,
    TokenLogprobs,
)

NONFINITE = Failure(
    "nonfinite_logits",
    "the model computed NaN or infinite logits for this row; model.dtype: float32 often helps, "
    "otherwise the weights are damaged",
)

GRAMMAR_STUCK = Failure(
    "grammar_stuck",
    "no token could continue the answer within decoding.response_format: all that it allows have "
    "probability 0, or it is too complex",
)


class LogprobCollector:
    """Collects the log-probabilities of an answer, position after position."""

    def __init__(self) -> None:
        self._width = 0
        self._token_ids = array("i")
        self._logprobs = array("f")

    def add(self, token_id: int, logprob: float, most_likely: MostLikely) -> None:
        self._width = 1 + len(most_likely.token_ids)
        self._token_ids.append(token_id)
        self._token_ids.extend(most_likely.token_ids)
        self._logprobs.append(logprob)
        self._logprobs.extend(most_likely.logprobs)

    @property
    def collected(self) -> TokenLogprobs | None:
        """All positions; None if there is none."""
        if not self._width:
            return None
        return TokenLogprobs(self._width, self._logprobs, self._token_ids)


class CompletionBuilder:
    """The new tokens of one request."""

    def __init__(
        self, request: Request, decode: AnswerDecoder, before: Sequence[int] | None = None
    ) -> None:
        """`before`: the tokens before the answer, if they are not those of the prompt."""
        self.request = request
        prompt = request.token_ids if before is None else before
        self._stopper = Stopper(request.decoding, decode, prompt)
        self._token_ids: list[int] = []
        self._logprobs = 0.0
        self._positions = LogprobCollector()

    @property
    def token_ids(self) -> Sequence[int]:
        """The new tokens so far."""
        return self._token_ids

    @property
    def new_tokens(self) -> int:
        return len(self._token_ids)

    def add_token(
        self,
        token_id: int,
        logprob: float = 0.0,
        most_likely: MostLikely | None = None,
        *,
        complete: bool = False,
    ) -> FinishReason | None:
        """Add the next token, after which the grammar may be `complete`; returns why the answer ends with it, else None."""
        self._token_ids.append(token_id)
        self._logprobs += logprob
        if most_likely is not None:
            self._positions.add(token_id, logprob, most_likely)
        return self._stopper.push(token_id, complete=complete)

    def add_sampled(self, batch: SampledBatch, row: int) -> Completion | None:
        """Add the token that was sampled for a row; returns the completion if the answer ends with it."""
        if not batch.finite[row]:
            return failed_completion(self.request, NONFINITE)
        outcome = batch.outcomes.get(row, "open")
        if outcome == "stuck":
            return failed_completion(self.request, GRAMMAR_STUCK)
        token, logprob, likely = batch.token_ids[row], batch.logprobs[row], batch.most_likely[row]
        reason = self.add_token(token, logprob, likely, complete=outcome == "complete")
        return None if reason is None else self.completion(reason)

    def completion(self, reason: FinishReason) -> Completion:
        request = self.request
        mean = self._logprobs / len(self._token_ids) if request.decoding.logprobs else None
        return Completion(
            request.index,
            request.sample,
            self._token_ids,
            self._stopper.finish(),
            reason,
            mean,
            token_logprobs=self._positions.collected,
        )


def failed_completion(request: Request, failure: Failure) -> Completion:
    """A completion without an answer."""
    return Completion(request.index, request.sample, (), "", "error", failure=failure)
