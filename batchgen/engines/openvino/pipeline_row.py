"""A row in OpenVINO's pipeline, and what becomes of its tokens."""

from array import array
from collections.abc import Sequence
from typing import Any

from batchgen.decoding.stopping import Stopper
from batchgen.records import (
    AnswerDecoder,
    Completion,
    Failure,
    FinishReason,
    Request,
    TokenLogprobs,
)


class PipelineRow:
    """The tokens of one request, as the pipeline returns them; batchgen decides where the answer ends."""

    def __init__(
        self,
        request: Request,
        handle: Any,  # noqa: ANN401  (a GenerationHandle)
        decode: AnswerDecoder,
        vocab_size: int,
    ) -> None:
        self.request = request
        self.handle = handle
        self._vocab_size = vocab_size
        self._stopper = Stopper(request.decoding, decode, request.token_ids)
        self._token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._reason: FinishReason | None = None
        self._wrong: int | None = None

    @property
    def watched(self) -> bool:
        """Whether the answer may end by its text, which the pipeline cannot see."""
        return bool(self.request.decoding.stop_strings)

    @property
    def ignored(self) -> bool:
        """Whether the pipeline gave up the row for lack of memory."""
        return bool(self.handle.get_status().name == "IGNORED")

    @property
    def ended(self) -> bool:
        return self._reason is not None or self._wrong is not None

    def read(self) -> None:
        """Take the tokens that the pipeline has for this row."""
        while not self.ended and self.handle.can_read():
            for output in self.handle.read().values():
                self._add(list(output.generated_ids), list(output.generated_log_probs))

    def completion(self) -> Completion:
        """The completion of a row that the pipeline has finished, or that has ended by its text."""
        if not self.ended:
            self.read()
        failure = self._failure()
        if failure is not None or self._reason is None:
            return failed_completion(self.request, failure or _ENDED_EARLY)
        decoding = self.request.decoding
        mean = recorded = None
        if decoding.logprobs:
            mean = sum(self._logprobs) / len(self._logprobs)
        if decoding.top_logprobs is not None:
            ids = array("i", self._token_ids)
            recorded = TokenLogprobs(1, array("f", self._logprobs), ids)
        return Completion(
            self.request.index,
            self.request.sample,
            self._token_ids,
            self._stopper.finish(),
            self._reason,
            mean,
            token_logprobs=recorded,
        )

    def _add(self, token_ids: Sequence[int], logprobs: Sequence[float]) -> None:
        for number, token in enumerate(token_ids):
            if not 0 <= token < self._vocab_size:
                self._wrong = token
                return
            self._token_ids.append(token)
            self._logprobs.append(logprobs[number] if number < len(logprobs) else 0.0)
            self._reason = self._stopper.push(token)
            if self._reason is not None:
                return

    def _failure(self) -> Failure | None:
        if self._wrong is not None:
            return Failure(
                "unknown_token",
                f"OpenVINO GenAI returned token {self._wrong}, but the model has {self._vocab_size} tokens",
            )
        if self.ignored:
            return Failure(
                "out_of_memory",
                "OpenVINO GenAI gave up this row for lack of memory, even without other rows; "
                "raise batching.max_tokens or batching.memory_fraction",
            )
        return None


_ENDED_EARLY = Failure(
    "server_error", "OpenVINO GenAI ended the answer without an end token, below max_new_tokens"
)


def failed_completion(request: Request, failure: Failure) -> Completion:
    """A completion without an answer."""
    return Completion(request.index, request.sample, (), "", "error", failure=failure)
