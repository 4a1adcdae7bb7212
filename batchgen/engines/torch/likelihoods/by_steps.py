"""Log-probabilities of given continuations by the steps of continuous batching.

    continuations ──window──> rows ──scheduler──> step ──model──> logits ──reader──> likelihoods

A row is a context and its continuations, in turn:

    context + longest    c c c c x x x x      the context is computed only here
    the next one         c c c c y y          its tokens use the same pages
    of one token         c c c c              nothing to compute: the logits after the context contain it

The logits after the context contain the first token of every continuation. The last token of a continuation is not
computed: its logits are not needed. Shared prefixes of contexts are computed once, as for prompts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from torch import Tensor

from batchgen.engines.torch.continuous.continuous_tier import BatchShape, StepBackend
from batchgen.engines.torch.continuous.step_runner import StepRunner
from batchgen.engines.torch.likelihoods.branches import Branch, ContextReader, group_by_context
from batchgen.planning.pages import Arena, PageAllocator
from batchgen.planning.prefill_batch import StepLimits
from batchgen.planning.scheduler import Scheduler
from batchgen.planning.sequences import ScheduledSequence, Step, assign_prefixes
from batchgen.records import Continuation, Failure, Likelihood

MAX_PENDING = 512
"""Contexts that are pulled together. There are no long answers here, so more would save little, and results stay closer to
the order of the requests."""
_MOST_OF_CONTEXT = 32
"""Continuations of a context that are pulled together, on average."""
TOO_LARGE = Failure(
    "out_of_memory",
    "context and continuation need more memory for keys and values than available; "
    "shorten them or raise batching.max_tokens",
)


@dataclass(eq=False, slots=True)
class _LikelihoodJob:
    """A context and its continuations, the longest first; the one with index `turn` is in the row."""

    row: ScheduledSequence
    context: Sequence[int]
    branches: list[Branch]
    turn: int = 0


class StepLikelihoods:
    """Computes log-probabilities by steps. One call at a time, and none while the tier generates."""

    def __init__(
        self, backend: StepBackend, shape: BatchShape, should_stop: Callable[[], bool]
    ) -> None:
        """The sampler of `backend` is not used; `should_stop`: checked between steps."""
        sizes = backend.store.sizes
        self._backend = backend
        self._shape = shape
        self._should_stop = should_stop
        self._scheduler = Scheduler(
            StepLimits(shape.rows, shape.step_tokens, backend.workers.count, shape.cuts),
            PageAllocator(sizes.pages, sizes.page_size),
            Arena(sizes.arena, sizes.page_size),
            expected=lambda limit: limit,
        )
        self._stepper = StepRunner(backend.workers, backend.store, backend.device, self._scheduler)
        self._jobs: dict[int, _LikelihoodJob] = {}
        self._held: Continuation | None = None
        self._contexts = 0
        self._prefixes = 0

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
        try:
            yield from self._steps(iter(continuations))
        finally:
            # After a stop: rows of this call must not remain in the next one.
            self._scheduler.abandon()
            self._jobs.clear()
            self._held = None

    def _steps(self, source: Iterator[Continuation]) -> Iterator[Likelihood]:
        while not self._should_stop():
            self._pull(source)
            for row in self._scheduler.too_large():
                for branch in self._jobs.pop(row.number).branches:
                    yield from branch.failed(TOO_LARGE)
            step = self._scheduler.next()
            if step is None:
                if not self._jobs:
                    return
                continue
            for job in self._stepper.compute(step, self._read):
                if job.row.pending == 0:
                    yield from self._next(job)

    def facts(self) -> Mapping[str, object]:
        return {"contexts": self._contexts, "prefixes": self._prefixes, **self._stepper.counts}

    def _pull(self, source: Iterator[Continuation]) -> None:
        if self._scheduler.waiting + self._scheduler.active >= self._scheduler.limits.rows:
            return
        of_contexts = group_by_context(self._window(source))
        rows = [self._row(context, group) for context, group in of_contexts.items()]
        if self._shape.share_prefixes:
            # The last token of a context is not in a prefix, since its logits are needed.
            self._prefixes += assign_prefixes(rows, list(of_contexts), self._prefixes + 1)
        self._scheduler.add(rows)

    def _window(self, source: Iterator[Continuation]) -> Iterator[Continuation]:
        """The next continuations, with all of their last context that follow each other in the stream."""
        most = min(self._shape.window, MAX_PENDING)
        contexts = 0
        context: Sequence[int] | None = None
        first = [] if self._held is None else [self._held]
        self._held = None
        for one in islice(chain(first, source), most * _MOST_OF_CONTEXT):
            if one.context != context:
                contexts, context = contexts + 1, one.context
            if contexts > most:
                self._held = one
                return
            yield one

    def _row(self, context: tuple[int, ...], group: list[Branch]) -> ScheduledSequence:
        longest = group[0].token_ids
        tokens = [*context, *longest[:-1]]
        row = ScheduledSequence(self._contexts, tokens, len(tokens), limit=0, draws=len(longest))
        self._contexts += 1
        self._jobs[row.number] = _LikelihoodJob(row, context, group)
        return row

    def _read(self, step: Step, logits: Tensor) -> list[_LikelihoodJob]:
        reader = ContextReader()
        drawing = [segment for segment in step.segments if segment.drawn]
        jobs = [self._jobs[segment.owner.number] for segment in drawing]
        for job, segment in zip(jobs, drawing, strict=True):
            end = job.row.cached + segment.count - (len(job.context) - 1)
            for position in range(end - segment.drawn, end):
                # The first token of every branch follows the context, whatever the turn.
                read = job.branches if position == 0 else [job.branches[job.turn]]
                reader.expect(read, position)
        reader.read_logits(logits)
        return jobs

    def _next(self, job: _LikelihoodJob) -> Iterator[Likelihood]:
        """Start the next continuation of the row, or return the results of all."""
        row = job.row
        job.turn += 1
        if job.turn < len(job.branches) and len(job.branches[job.turn].token_ids) > 1:
            tokens = job.branches[job.turn].token_ids
            row.token_ids = [*job.context, *tokens[:-1]]
            row.cached = len(job.context)
            row.draws = len(tokens) - 1
            self._scheduler.requeue_prefill(row)
            return
        if any(branch.nonfinite for branch in job.branches):
            # NaN keys would affect the next rows that use these pages.
            self._backend.store.clear(row.pages)
        self._scheduler.finish(row)
        del self._jobs[row.number]
        for branch in job.branches:
            yield from branch.likelihoods()
