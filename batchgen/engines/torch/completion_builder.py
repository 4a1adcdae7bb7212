"""The answer of one request while it grows, and the completion it becomes.

Knows nothing of tensors, batches or models: both tiers book their tokens here.
"""

from batchgen.decoding.stopping import Stopper
from batchgen.engines.contract import Decode
from batchgen.records import Completion, Failure, FinishReason, Request

NONFINITE = Failure(
    "nonfinite_logits",
    "the model computed NaN or infinite logits for this row; float32 instead of a half precision "
    "(model.dtype) often helps, else the weights are damaged",
)


class CompletionBuilder:
    """The new tokens of one request, and why they end."""

    def __init__(self, request: Request, decode: Decode) -> None:
        self.request = request
        self._stopper = Stopper(request.decoding, decode)
        self._token_ids: list[int] = []
        self._logprobs = 0.0

    def take(self, token_id: int, logprob: float = 0.0) -> FinishReason | None:
        """Book the next token; the reason why the answer ends with it, or None to go on."""
        self._token_ids.append(token_id)
        self._logprobs += logprob
        return self._stopper.push(token_id)

    def completion(self, reason: FinishReason) -> Completion:
        """What the request ends as."""
        request = self.request
        mean = self._logprobs / len(self._token_ids) if request.decoding.logprobs else None
        return Completion(
            request.index, request.sample, self._token_ids, self._stopper.finish(), reason, mean
        )


def failed_completion(request: Request, failure: Failure) -> Completion:
    """The completion of a request that has no answer."""
    return Completion(request.index, request.sample, (), "", "error", failure=failure)
