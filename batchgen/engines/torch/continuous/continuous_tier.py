"""The loop of the continuous tier: choose rows, compute a step, collect tokens.

    requests ──window──> rows ──scheduler──> step ──model──> logits ──sampler──> tokens ──builders──> completions

Requests are pulled in windows, so that duplicates and shared prefixes can be found; the next window is pulled when the
remaining rows no longer fill the batch. `scheduler.py` chooses the rows. After an answer that a request is expected to
follow, that request is pulled at once: it begins with the keys and values of the answer's row.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from batchgen.engines.torch.completion_builder import (
    GRAMMAR_STUCK,
    NONFINITE,
    CompletionBuilder,
    failed_completion,
)
from batchgen.engines.torch.continuous.kv_store import KVStore
from batchgen.engines.torch.continuous.step_runner import StepRunner
from batchgen.engines.torch.continuous.token_picker import SampledRow, SampledToken
from batchgen.engines.torch.continuous.workers import StepWorkers
from batchgen.engines.torch.tier import TierOptions
from batchgen.planning.pages import Arena, PageAllocator
from batchgen.planning.prefill_batch import StepLimits
from batchgen.planning.scheduler import ExpectedLength, Scheduler
from batchgen.planning.sequences import KeptSequence, ScheduledSequence, Step, assign_prefixes
from batchgen.records import Completion, Failure, InFlight, Request

TOO_LARGE = Failure(
    "out_of_memory",
    "prompt and max_new_tokens need more memory for keys and values than available; "
    "shorten them or raise batching.max_tokens",
)


@dataclass(frozen=True, slots=True)
class BatchShape:
    """Limits of what runs together.

    Attributes:
        step_tokens: most tokens of a prefill step.
        window: requests that are pulled together.
        share_prefixes: whether shared prefixes are computed once.
        cuts: see `StepLimits`.
    """

    rows: int = 128
    step_tokens: int = 512
    window: int = 2048
    share_prefixes: bool = True
    cuts: int = 1


MOST_SHOWN = 8
"""Rows in flight whose tokens are shown: those of a person who reads along."""


class StepSampler(Protocol):
    """Samples the tokens of a step."""

    def sample(self, rows: Sequence[SampledRow], logits: Tensor) -> list[SampledToken]:
        """Sample one token for each row; logits [rows, vocab] stay. After an error the same rows may be passed again."""


@dataclass(frozen=True, slots=True)
class StepBackend:
    """The parts that run steps on the device of a model."""

    workers: StepWorkers
    store: KVStore
    sampler: StepSampler
    device: torch.device

    def close(self) -> None:
        self.workers.close()
        self.store.free()


@dataclass(eq=False, slots=True)
class _RowJob:
    """A row and its requests: identical greedy requests share one row."""

    row: ScheduledSequence
    answer: CompletionBuilder
    requests: list[Request]


class LengthEstimator:
    """Expected answer lengths: the 0.9 quantile of recent answers."""

    def __init__(self) -> None:
        self._seen: deque[int] = deque(maxlen=256)

    def __call__(self, limit: int) -> int:
        """Expected length of an answer with at most `limit` tokens; the limit itself for the first 16 answers."""
        if len(self._seen) < 16:
            return limit
        recent = sorted(self._seen)
        return min(limit, recent[math.ceil(0.9 * len(recent)) - 1])

    def add(self, length: int) -> None:
        self._seen.append(length)


class ContinuousTier:
    """Continuous batching. See `tier.Tier`."""

    name = "continuous"

    def __init__(
        self,
        backend: StepBackend,
        shape: BatchShape,
        options: TierOptions,
        *,
        expected: ExpectedLength | None = None,
    ) -> None:
        self._backend = backend
        self._shape = shape
        self._options = options
        self._store = backend.store
        self._lengths = LengthEstimator()
        self._scheduler = Scheduler(
            StepLimits(shape.rows, shape.step_tokens, backend.workers.count, shape.cuts),
            PageAllocator(self._store.sizes.pages, self._store.sizes.page_size),
            Arena(self._store.sizes.arena, self._store.sizes.page_size),
            expected or self._lengths,
        )
        self._jobs: dict[int, _RowJob] = {}
        self._kept: dict[tuple[int | None, int], KeptSequence] = {}
        self._pulled: deque[Request] = deque()
        self._followed = 0
        self._next_number = 0
        self._counts = {"duplicates": 0, "prefixes": 0}
        self._stepper = StepRunner(backend.workers, self._store, backend.device, self._scheduler)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        try:
            yield from self._steps(iter(requests))
        finally:
            # After a stop: rows of this call must not remain in the next one.
            self._scheduler.abandon()
            self._followed = 0
            for rows in (self._jobs, self._kept, self._pulled):
                rows.clear()

    def _steps(self, source: Iterator[Request]) -> Iterator[Completion]:
        while not self._options.should_stop():
            self._pull(source)
            for row in self._scheduler.too_large():
                yield from self._fail(row, TOO_LARGE)
            step = self._scheduler.next()
            if step is None:
                if not self._jobs:
                    return
                continue
            for job, sampled in self._stepper.compute(step, self._sample):
                yield from self._add_token(job, sampled)
            self._pull_following(source)

    def in_flight(self) -> InFlight:
        jobs = list(self._jobs.values())
        tokens = sum(len(job.row.token_ids) - job.row.prompt for job in jobs)
        answers = {
            (request.index, request.sample): job.row.token_ids[job.row.prompt :]
            for job in (jobs if len(jobs) <= MOST_SHOWN else ())
            for request in job.requests
        }
        return InFlight(self._scheduler.active, tokens, answers)

    def facts(self) -> Mapping[str, object]:
        sizes = self._store.sizes
        return {
            "max_rows": self._scheduler.limits.rows,
            "max_tokens": sizes.pages * sizes.page_size,
            "max_prefix_tokens": sizes.arena,
            "step_tokens": self._scheduler.limits.step_tokens,
            "workers": self._backend.workers.count,
            "preempted": self._scheduler.preempted,
            "continued": self._scheduler.kept.rows,
            "continued_tokens": self._scheduler.kept.tokens,
            **self._stepper.counts,
            **self._counts,
        }

    def _pull(self, source: Iterator[Request]) -> None:
        if self._scheduler.waiting + self._scheduler.active >= self._scheduler.limits.rows:
            return
        window = self._shape.window
        requests = [self._pulled.popleft() for _ in range(min(window, len(self._pulled)))]
        requests += islice(source, window - len(requests))
        if requests:
            self._scheduler.add(self._rows(requests))

    def _pull_following(self, source: Iterator[Request]) -> None:
        """Pull the requests that follow the last answers. Others, where one does not, wait for the next window."""
        count, self._followed = self._followed, 0
        requests = list(islice(source, count))
        following = [one for one in requests if one.follows is not None]
        self._pulled.extend(one for one in requests if one.follows is None)
        if following:
            self._scheduler.add_next(self._rows(following))

    def _rows(self, requests: Sequence[Request]) -> list[ScheduledSequence]:
        same: dict[object, _RowJob] = {}
        rows: list[ScheduledSequence] = []
        for request in requests:
            key: object = None
            if request.decoding.greedy:
                key = (tuple(request.token_ids), request.decoding)
                if (twin := same.get(key)) is not None:
                    twin.requests.append(request)
                    self._counts["duplicates"] += 1
                    continue
            tokens = list(request.token_ids)
            limit = request.decoding.max_new_tokens
            row = ScheduledSequence(self._next_number, tokens, len(tokens), limit)
            self._next_number += 1
            job = _RowJob(row, CompletionBuilder(request, self._options.decode), [request])
            self._jobs[row.number] = job
            if key is not None:
                same[key] = job
            rows.append(row)
        self._assign_prefixes(rows)
        return rows

    def _assign_prefixes(self, rows: Sequence[ScheduledSequence]) -> None:
        """Have rows begin with what is kept of those that they follow, and the others with prefixes that they share."""
        for row in rows:
            keys = [(one.follows, one.sample) for one in self._jobs[row.number].requests]
            for kept in dict.fromkeys(self._kept.pop(key) for key in keys if key in self._kept):
                if row.kept is None and row.prefix is None:
                    self._scheduler.kept.assign(row, kept, self._shape.cuts)
                else:
                    self._scheduler.kept.drop(kept)
        if self._shape.share_prefixes:
            others = [row for row in rows if row.prefix is None and row.kept is None]
            prompts = [row.token_ids for row in others]
            first = self._counts["prefixes"] + 1
            self._counts["prefixes"] += assign_prefixes(others, prompts, first)

    def _sample(self, step: Step, logits: Tensor) -> list[tuple[_RowJob, SampledToken]]:
        jobs = [self._jobs[row.number] for row in step.rows]
        if not jobs:
            return []
        for job in jobs:
            if job.answer.new_tokens and len(job.row.token_ids) == job.row.prompt:
                # It was preempted and begins again.
                job.answer = CompletionBuilder(job.requests[0], self._options.decode)
        rows = [SampledRow(j.row.number, j.requests[0], j.row.token_ids) for j in jobs]
        return list(zip(jobs, self._backend.sampler.sample(rows, logits), strict=True))

    def _add_token(self, job: _RowJob, sampled: SampledToken) -> Iterator[Completion]:
        row = job.row
        if not sampled.finite:
            # NaN keys would affect the next rows that use these pages.
            self._store.clear(row.pages)
            self._scheduler.finish(row)
            yield from self._fail(row, NONFINITE)
            return
        if sampled.outcome == "stuck":
            self._scheduler.finish(row)
            yield from self._fail(row, GRAMMAR_STUCK)
            return
        row.token_ids.append(sampled.token_id)
        reason = job.answer.add_token(
            sampled.token_id,
            sampled.logprob,
            sampled.most_likely,
            complete=sampled.outcome == "complete",
        )
        if reason is None:
            return
        self._finish(job)
        self._lengths.add(len(row.token_ids) - row.prompt)
        del self._jobs[row.number]
        done = job.answer.completion(reason)
        for request in job.requests:
            yield replace(done, index=request.index, sample=request.sample)

    def _finish(self, job: _RowJob) -> None:
        followed = [one for one in job.requests if one.is_followed]
        if not followed:
            self._scheduler.finish(job.row)
            return
        kept = self._scheduler.finish_and_keep(job.row)
        self._kept |= {(one.index, one.sample): kept for one in followed}
        self._followed += len(followed)

    def _fail(self, row: ScheduledSequence, failure: Failure) -> Iterator[Completion]:
        for request in self._jobs.pop(row.number).requests:
            yield failed_completion(request, failure)
