"""Rows are computed by OpenVINO GenAI's continuous batching: this loop adds requests and calls its steps.

    requests ──pulled──> add_request ──step, step, …──> tokens of each row ──> Stopper ──> completions

It runs in a process of its own. A step holds Python's lock, so that no other thread of the process runs until it ends: the
time limit of a step is an alarm of the system, which ends the process.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from batchgen.engines.openvino.openvino_capacity import BLOCK_TOKENS, OpenvinoCapacity
from batchgen.engines.openvino.pipeline_row import PipelineRow, failed_completion
from batchgen.errors import DeathError
from batchgen.records import (
    AnswerDecoder,
    Completion,
    Continuation,
    Failure,
    InFlight,
    Likelihood,
    Request,
)

NAME = "openvino"
STEP_SECONDS = 1800.0
"""Longest time of a step: one that takes longer never ends."""
_WAITING_SHARE = 2
"""Requests in the pipeline, in multiples of the rows at a time: those that wait enter without a pause."""


class OpenvinoPipeline:
    """A pipeline of the library, and what batchgen needs of it. Both modules are the library's, or stand-ins."""

    def __init__(
        self,
        pipeline: Any,  # noqa: ANN401  (of a library without types)
        genai: Any,  # noqa: ANN401
        tensor: Callable[[Sequence[int]], Any],
        step_seconds: float = STEP_SECONDS,
    ) -> None:
        """`tensor` makes an input of token ids; `step_seconds` is the longest time of a step."""
        self._pipeline = pipeline
        self._genai = genai
        self._step_seconds = step_seconds
        self._tensor = tensor
        self._count = 0

    def add(self, request: Request) -> Any:  # noqa: ANN401  (a GenerationHandle)
        """Add a request; returns its handle. Raises RuntimeError if the library rejects it."""
        self._count += 1
        tokens = self._tensor(request.token_ids)
        return self._pipeline.add_request(self._count, tokens, self._config(request))

    def step(self) -> None:
        """Compute a step of all rows.

        Raises:
            DeathError: the library failed: its state is unknown from here on.
        """
        signal.setitimer(signal.ITIMER_REAL, self._step_seconds)
        try:
            self._pipeline.step()
        except RuntimeError as error:
            reason = str(error).strip().splitlines() or ["without a reason"]
            raise DeathError(
                f"OpenVINO GenAI failed in a step: {reason[-1][:200]}",
                hint="Run the same command again: a row that does this repeatedly is found and marked failed.",
            ) from error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    @property
    def busy(self) -> bool:
        return bool(self._pipeline.has_non_finished_requests())

    def _config(self, request: Request) -> Any:  # noqa: ANN401  (a GenerationConfig)
        decoding, config = request.decoding, self._genai.GenerationConfig()
        config.max_new_tokens = decoding.max_new_tokens
        config.min_new_tokens = decoding.min_new_tokens
        ends = sorted(decoding.end_token_ids)
        if ends:
            config.eos_token_id, config.stop_token_ids = ends[0], set(ends)
        else:  # otherwise the library takes those of the model's files
            config.ignore_eos = True
        config.repetition_penalty = decoding.repetition_penalty
        config.logprobs = int(decoding.logprobs or decoding.top_logprobs is not None)
        config.do_sample = not decoding.greedy
        if not decoding.greedy:
            config.temperature = decoding.temperature
            config.top_p, config.min_p = decoding.top_p, decoding.min_p
            config.top_k = decoding.top_k  # 0 keeps all tokens
            config.rng_seed = request.seed % 2**32  # the library's generator takes 32 bits
        return config


class OpenvinoEngine:
    """Answers requests with a pipeline."""

    name = NAME

    def __init__(
        self,
        pipeline: OpenvinoPipeline,
        *,
        capacity: OpenvinoCapacity,
        vocab_size: int,
        decode: AnswerDecoder,
        should_stop: Callable[[], bool],
        facts: Mapping[str, object],
    ) -> None:
        self._pipeline = pipeline
        self._most = _WAITING_SHARE * capacity.rows
        self._cache_tokens = capacity.blocks * BLOCK_TOKENS
        self._vocab_size = vocab_size
        self._decode = decode
        self._should_stop = should_stop
        self._facts = facts
        self._rows: list[PipelineRow] = []
        self._displaced: list[Request] = []

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """As `Engine.generate`.

        Raises:
            DeathError: the library failed.
        """
        source = iter(requests)
        try:
            while not self._should_stop():
                yield from self._fill(source)
                if not self._rows and not self._displaced:
                    return
                yield from self._step()
        finally:
            self._discard()

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
        raise NotImplementedError  # `EngineInfo.likelihoods` is False

    def in_flight(self) -> InFlight:
        return InFlight(len(self._rows))

    def facts(self) -> Mapping[str, object]:
        return self._facts

    def close(self) -> None:
        """Do nothing: the pipeline ends with its process."""

    def _fill(self, source: Iterator[Request]) -> Iterator[Completion]:
        """Pull requests as long as there is capacity; yields the completions of those that cannot be computed."""
        if (
            self._displaced
        ):  # they wait until nothing else is in flight, and are then computed one at a time
            requests: Iterable[Request] = [] if self._rows else [self._displaced.pop()]
        else:
            requests = islice(source, max(0, self._most - len(self._rows)))
        for request in requests:
            if (failure := self._enter(request)) is not None:
                yield failed_completion(request, failure)

    def _enter(self, request: Request) -> Failure | None:
        """Add a request to the pipeline; returns why it cannot be computed."""
        lowest, highest = min(request.token_ids), max(request.token_ids)
        if lowest < 0 or highest >= self._vocab_size:
            return Failure(
                "unknown_token",
                f"the row contains token {highest}, but the model has {self._vocab_size} tokens: the tokenizer has more",
            )
        most = len(request.token_ids) + request.decoding.max_new_tokens
        if most > self._cache_tokens:
            return Failure(
                "out_of_memory",
                f"prompt and answer may have {most:,} tokens, but keys and values of {self._cache_tokens:,} fit in memory; "
                "raise batching.max_tokens or batching.memory_fraction",
            )
        try:
            handle = self._pipeline.add(request)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            return Failure("request_refused", f"OpenVINO GenAI refuses the row: {reason[-1][:200]}")
        self._rows.append(PipelineRow(request, handle, self._decode, self._vocab_size))
        return None

    def _step(self) -> Iterator[Completion]:
        """Compute a step; yields the completions of rows that end with it."""
        self._pipeline.step()
        remaining, completions = [], []
        for row in self._rows:
            running = row.handle.get_status().name == "RUNNING"
            if running and row.watched:
                row.read()
                if row.ended:
                    row.handle.stop()
                    running = False
            if running:
                remaining.append(row)
            elif row.ignored and len(self._rows) > 1:
                # The library gives up rows while others fill its cache: this one is computed again, alone.
                self._displaced.append(row.request)
            else:
                completions.append(row.completion())
        self._rows = remaining
        yield from completions

    def _discard(self) -> None:
        """Cancel all rows, so that the next call begins with an empty pipeline."""
        for row in self._rows:
            row.handle.cancel()
        if self._rows and self._pipeline.busy:
            self._pipeline.step()
        self._rows, self._displaced = [], []
