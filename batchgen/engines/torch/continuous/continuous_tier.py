"""The loop of the continuous tier: choose rows, compute a step, collect tokens.

    requests ──window──> rows ──scheduler──> step ──model──> logits ──picker──> tokens ──answers──> completions

Requests are pulled in windows, so that duplicates and shared prefixes can be found; the next window is pulled when the
remaining rows no longer fill the batch. `scheduler.py` chooses the rows.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from batchgen.engines.torch.completion_builder import (
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
from batchgen.planning.sequences import ScheduledSequence, Step, assign_prefixes
from batchgen.records import Completion, Failure, Request

TOO_LARGE = Failure(
    "out_of_memory",
    "prompt and max_new_tokens need more memory for keys and values than available; "
    "shorten them or raise batching.max_tokens",
)


@dataclass(frozen=True, slots=True)
class BatchShape:
    """Limits of what runs together.

    Attributes:
        rows: most rows at a time.
        step_tokens: most tokens of a prefill step.
        window: requests that are pulled together.
        share: whether shared prefixes are computed once.
    """

    rows: int = 128
    step_tokens: int = 512
    window: int = 2048
    share: bool = True


class StepSampler(Protocol):
    """Samples the tokens of a step."""

    def pick(self, asked: Sequence[SampledRow], logits: Tensor) -> list[SampledToken]:
        """Sample one token for each row; logits [rows, vocab] are not changed.

        If memory runs out, no token counts and the same rows may be passed again.
        """


@dataclass(frozen=True, slots=True)
class StepBackend:
    """The parts that run steps.

    Attributes:
        lanes: compute a step, or its parts.
        store: keys and values.
        picker: samples the tokens.
        device: of the model.
    """

    lanes: StepWorkers
    store: KVStore
    picker: StepSampler
    device: torch.device


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
        """Record the length of a finished answer."""
        self._seen.append(length)


class ContinuousTier:
    """Continuous batching. See `tier.Tier`."""

    name = "continuous"

    def __init__(
        self,
        machine: StepBackend,
        shape: BatchShape,
        setting: TierOptions,
        *,
        expected: ExpectedLength | None = None,
    ) -> None:
        """Run steps on `machine`; `expected` replaces the estimate of answer lengths."""
        self._machine = machine
        self._shape = shape
        self._setting = setting
        self._store = machine.store
        self._lengths = LengthEstimator()
        self._scheduler = Scheduler(
            StepLimits(shape.rows, shape.step_tokens, machine.lanes.count),
            PageAllocator(self._store.sizes.pages, self._store.sizes.page_size),
            Arena(self._store.sizes.arena),
            expected or self._lengths,
        )
        self._jobs: dict[int, _RowJob] = {}
        self._next_number = 0
        self._counts = {"duplicates": 0, "prefixes": 0}
        self._stepper = StepRunner(machine.lanes, self._store, machine.device, self._scheduler)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Answer all requests, in any order."""
        try:
            yield from self._steps(iter(requests))
        finally:
            # After a stop: rows of this call must not remain in the next one.
            self._scheduler.abandon()
            self._jobs.clear()

    def _steps(self, source: Iterator[Request]) -> Iterator[Completion]:
        while not self._setting.should_stop():
            self._pull(source)
            for row in self._scheduler.too_large():
                yield from self._fail(row, TOO_LARGE)
            step = self._scheduler.next()
            if step is None:
                if not self._jobs:
                    return
                continue
            for job, picked in self._stepper.compute(step, self._pick):
                yield from self._take(job, picked)

    def facts(self) -> Mapping[str, object]:
        """Limits and counters, for the manifest."""
        sizes = self._store.sizes
        return {
            "max_rows": self._scheduler.limits.rows,
            "max_tokens": sizes.pages * sizes.page_size,
            "max_prefix_tokens": sizes.arena,
            "step_tokens": self._scheduler.limits.step_tokens,
            "workers": self._machine.lanes.count,
            "preempted": self._scheduler.preempted,
            **self._stepper.counts,
            **self._counts,
        }

    def _pull(self, source: Iterator[Request]) -> None:
        if self._scheduler.waiting + self._scheduler.active >= self._scheduler.limits.rows:
            return
        requests = list(islice(source, self._shape.window))
        if not requests:
            return
        rows = self._rows(requests)
        if self._shape.share:
            prompts = [row.token_ids for row in rows]
            self._counts["prefixes"] += assign_prefixes(rows, prompts, self._counts["prefixes"] + 1)
        self._scheduler.add(rows)

    def _rows(self, requests: Sequence[Request]) -> list[ScheduledSequence]:
        """One row per request; identical greedy requests share one."""
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
            row = ScheduledSequence(
                self._next_number,
                list(request.token_ids),
                len(request.token_ids),
                request.decoding.max_new_tokens,
            )
            self._next_number += 1
            job = _RowJob(row, CompletionBuilder(request, self._setting.decode), [request])
            self._jobs[row.number] = job
            if key is not None:
                same[key] = job
            rows.append(row)
        return rows

    def _pick(self, step: Step, logits: Tensor) -> list[tuple[_RowJob, SampledToken]]:
        jobs = [self._jobs[row.number] for row in step.rows]
        if not jobs:
            return []
        asked = [SampledRow(j.row.number, j.requests[0], j.row.token_ids) for j in jobs]
        return list(zip(jobs, self._machine.picker.pick(asked, logits), strict=True))

    def _take(self, job: _RowJob, picked: SampledToken) -> Iterator[Completion]:
        row = job.row
        if not picked.finite:
            # NaN keys would affect the next rows that use these pages.
            self._store.clear(row.pages)
            self._scheduler.finish(row)
            yield from self._fail(row, NONFINITE)
            return
        row.token_ids.append(picked.token_id)
        reason = job.answer.take(picked.token_id, picked.logprob)
        if reason is None:
            return
        self._scheduler.finish(row)
        self._lengths.add(len(row.token_ids) - row.prompt)
        del self._jobs[row.number]
        done = job.answer.completion(reason)
        for request in job.requests:
            yield Completion(
                request.index,
                request.sample,
                done.token_ids,
                done.text,
                done.finish_reason,
                done.logprob_mean,
            )

    def _fail(self, row: ScheduledSequence, failure: Failure) -> Iterator[Completion]:
        for request in self._jobs.pop(row.number).requests:
            yield failed_completion(request, failure)
