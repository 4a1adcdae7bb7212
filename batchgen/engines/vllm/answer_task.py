"""The answer to a request, from the tokens that vLLM returns."""

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from batchgen.decoding.stopping import Stopper
from batchgen.decoding_settings import AnswerGrammar
from batchgen.engines.vllm.request_settings import sampling_settings
from batchgen.engines.vllm.vllm_arguments import LEAST_TEMPERATURE, MOST_TEMPERATURE, is_computed
from batchgen.engines.vllm.vllm_task import VllmOutput
from batchgen.records import (
    AnswerDecoder,
    Completion,
    Failure,
    FinishReason,
    Request,
    TokenLogprobs,
)

_REFUSED = "vLLM refused the row's settings or the length of its prompt"
NONFINITE = "the model computed log-probabilities that are not numbers for this row; model.dtype: float32 often helps"
_ENDS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
"""Why vLLM ends an answer whose tokens do not end it: a form is complete, or the context window is full."""


class AnswerTask:
    """The new tokens of one request."""

    def __init__(self, request: Request, decode: AnswerDecoder) -> None:
        self._request, self._decode = request, decode
        self._is_second = False
        self._begin()

    def _begin(self) -> None:
        self._stopper = Stopper(self._request.decoding, self._decode, self._request.token_ids)
        self._token_ids: list[int] = []
        self._ids = array("i")
        self._logprobs = array("f")
        self._sum = 0.0

    @property
    def prompt(self) -> Sequence[int]:
        return self._request.token_ids

    @property
    def new_tokens(self) -> int:
        return len(self._token_ids)

    @property
    def scored_tokens(self) -> int:
        return 0

    @property
    def every_step(self) -> bool:
        return bool(self._request.decoding.stop_strings)

    @property
    def form(self) -> AnswerGrammar | None:
        return self._request.decoding.grammar

    def settings(self) -> dict[str, Any]:
        return sampling_settings(self._request)

    def refused(self) -> Sequence[Completion]:
        if not is_computed(self._request.decoding.temperature):
            message = f"decoding.temperature: engine vllm computes 0, and {LEAST_TEMPERATURE} to {MOST_TEMPERATURE:g}"
            return [self._failed(Failure("invalid_override", message))]
        return [self._failed(Failure("request_refused", _REFUSED))]

    def advance(self, output: VllmOutput) -> Sequence[Completion] | None:
        reason = self._add(output)
        if reason is None and output.reason is not None:
            reason = _ENDS.get(output.reason)
        if reason is not None:
            return [self._completion(reason)]
        if output.reason is None:
            return None
        if self._is_second:
            message = f"vLLM ended the row twice with {output.reason[:20]!r}"
            return [self._failed(Failure("server_error", message))]
        self._is_second = True
        self._begin()
        return None

    def _add(self, output: VllmOutput) -> FinishReason | None:
        """Add tokens; returns why the answer ends among them, else None. Tokens behind its end are ignored."""
        for number, token in enumerate(output.token_ids):
            self._token_ids.append(token)
            if self._request.decoding.logprobs and output.logprobs is not None:
                self._record(token, output.logprobs[number])
            if (reason := self._stopper.push(token)) is not None:
                return reason
        return None

    def _record(self, token: int, position: Mapping[int, Any]) -> None:
        own = position[token].logprob
        self._sum += own
        if (most := self._request.decoding.top_logprobs) is None:
            return
        likely = sorted(position.items(), key=lambda item: (-item[1].logprob, item[0]))[:most]
        self._ids.extend([token, *(one for one, _ in likely)])
        self._logprobs.extend([own, *(value.logprob for _, value in likely)])

    def _completion(self, reason: FinishReason) -> Completion:
        request, mean, recorded = self._request, None, None
        if request.decoding.logprobs and self._token_ids:
            mean = self._sum / len(self._token_ids)
            if math.isnan(mean):
                return self._failed(Failure("nonfinite_logits", NONFINITE))
        if self._ids:
            width = len(self._ids) // len(self._token_ids)
            recorded = TokenLogprobs(width, self._logprobs, self._ids)
        return Completion(
            request.index,
            request.sample,
            tuple(self._token_ids),
            self._stopper.finish(),
            reason,
            mean,
            token_logprobs=recorded,
        )

    def _failed(self, failure: Failure) -> Completion:
        key = self._request.index, self._request.sample
        return Completion(*key, (), "", "error", failure=failure)
