"""Collects the tokens of one request and builds its completion."""

from batchgen.decoding.stopping import Stopper
from batchgen.engines.contract import Decode
from batchgen.engines.torch.token_chooser import SampledBatch
from batchgen.records import Completion, Failure, FinishReason, Request

NONFINITE = Failure(
    "nonfinite_logits",
    "the model computed NaN or infinite logits for this row; model.dtype: float32 often helps, "
    "otherwise the weights are damaged",
)


class CompletionBuilder:
    """The new tokens of one request."""

    def __init__(self, request: Request, decode: Decode) -> None:
        self.request = request
        self._stopper = Stopper(request.decoding, decode)
        self._token_ids: list[int] = []
        self._logprobs = 0.0

    def add_token(self, token_id: int, logprob: float = 0.0) -> FinishReason | None:
        """Add the next token; returns the reason if the answer ends with it, else None."""
        self._token_ids.append(token_id)
        self._logprobs += logprob
        return self._stopper.push(token_id)

    def add_sampled(self, batch: SampledBatch, row: int) -> Completion | None:
        """Add the token that was sampled for a row; returns the completion if the answer ends with it."""
        if not batch.finite[row]:
            return failed_completion(self.request, NONFINITE)
        reason = self.add_token(batch.token_ids[row], batch.logprobs[row])
        return None if reason is None else self.completion(reason)

    def completion(self, reason: FinishReason) -> Completion:
        request = self.request
        mean = self._logprobs / len(self._token_ids) if request.decoding.logprobs else None
        return Completion(
            request.index, request.sample, self._token_ids, self._stopper.finish(), reason, mean
        )


def failed_completion(request: Request, failure: Failure) -> Completion:
    """A completion without an answer."""
    return Completion(request.index, request.sample, (), "", "error", failure=failure)
