"""The loop for continuations that are given: nothing is drawn, every token's likelihood is read.

    continuations ──window──> rows ──scheduler──> step ──model──> logits ──reader──> likelihoods

A row is a context and its continuations, which take turns behind it:

    context + longest    c c c c x x x x      the context is computed here, and only here
    the next one         c c c c y y          its tokens lie in the pages where the last one's lay
    of one token         c c c c              nothing to compute: the logits behind the context say it

The logits behind the context are those of every continuation's first token. A continuation's last token is not computed:
nobody asks what comes after it. Beginnings that contexts share are computed once, as for prompts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

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
"""Continuations that are looked at together. Nobody waits for a long answer here, so that more would save little, and
what is told comes out sooner in the order in which it was asked."""
TOO_LARGE = Failure(
    "out_of_memory",
    "context and continuation need more memory for keys and values than there is; "
    "shorten them or raise batching.max_tokens",
)


@dataclass(eq=False, slots=True)
class _LikelihoodJob:
    """A context and its continuations, the longest first.

    Attributes:
        turn: which of them the row holds.
    """

    row: ScheduledSequence
    context: Sequence[int]
    branches: list[Branch]
    turn: int = 0


class StepLikelihoods:
    """Likelihoods by the steps of continuous batching. One call at a time, and none while the tier generates."""

    def __init__(
        self, machine: StepBackend, shape: BatchShape, should_stop: Callable[[], bool]
    ) -> None:
        """Ask a machine, whose picker is not needed; `should_stop` is asked between steps."""
        sizes = machine.store.sizes
        self._machine = machine
        self._shape = shape
        self._should_stop = should_stop
        self._scheduler = Scheduler(
            StepLimits(shape.rows, shape.step_tokens, machine.lanes.count),
            PageAllocator(sizes.pages, sizes.page_size),
            Arena(sizes.arena),
            expected=lambda limit: limit,
        )
        self._stepper = StepRunner(machine.lanes, machine.store, machine.device, self._scheduler)
        self._jobs: dict[int, _LikelihoodJob] = {}
        self._contexts = 0
        self._prefixes = 0

    def likelihoods(self, asked: Iterable[Continuation]) -> Iterator[Likelihood]:
        """See `Engine.likelihoods`."""
        source = iter(asked)
        while not self._should_stop():
            self._pull(source)
            for row in self._scheduler.too_large():
                yield from _failed(self._jobs.pop(row.number).branches, TOO_LARGE)
            step = self._scheduler.next()
            if step is None:
                if not self._jobs:
                    return
                continue
            for job in self._stepper.compute(step, self._read):
                if job.row.pending == 0:
                    yield from self._next(job)

    def facts(self) -> Mapping[str, object]:
        """What was counted."""
        return {"contexts": self._contexts, "prefixes": self._prefixes, **self._stepper.counts}

    def _pull(self, source: Iterator[Continuation]) -> None:
        if self._scheduler.waiting + self._scheduler.active >= self._scheduler.limits.rows:
            return
        of_contexts = group_by_context(islice(source, min(self._shape.window, MAX_PENDING)))
        rows = [self._row(context, group) for context, group in of_contexts.items()]
        if self._shape.share:
            # A context's last token stays the row's own, since it draws.
            self._prefixes += assign_prefixes(rows, list(of_contexts), self._prefixes + 1)
        self._scheduler.add(rows)

    def _row(self, context: tuple[int, ...], group: list[Branch]) -> ScheduledSequence:
        longest = group[0].token_ids
        tokens = [*context, *longest[:-1]]
        row = ScheduledSequence(self._contexts, tokens, len(tokens), limit=0, wanted=len(longest))
        self._contexts += 1
        self._jobs[row.number] = _LikelihoodJob(row, context, group)
        return row

    def _read(self, step: Step, logits: Tensor) -> list[_LikelihoodJob]:
        """Tell the branches what a step says of them; the jobs that it says something of."""
        reader = ContextReader()
        drawing = [segment for segment in step.segments if segment.drawn]
        jobs = [self._jobs[segment.owner.number] for segment in drawing]
        for job, segment in zip(jobs, drawing, strict=True):
            end = job.row.cached + segment.count - (len(job.context) - 1)
            for place in range(end - segment.drawn, end):
                # The first token of all of them comes after the context, whoever's turn it is.
                reader.read(job.branches if place == 0 else [job.branches[job.turn]], place)
        reader.look(logits)
        return jobs

    def _next(self, job: _LikelihoodJob) -> Iterator[Likelihood]:
        """The row's turn is over: the next continuation's, or all are known."""
        row = job.row
        job.turn += 1
        further = job.turn < len(job.branches) and len(job.branches[job.turn].token_ids) > 1
        if further:
            tokens = job.branches[job.turn].token_ids
            row.token_ids = [*job.context, *tokens[:-1]]
            row.cached = len(job.context)
            row.wanted = len(tokens) - 1
            self._scheduler.again(row)
            return
        if any(branch.broken for branch in job.branches):
            # NaN keys would reach whoever gets these pages next.
            self._machine.store.clear(row.pages)
        self._scheduler.leave(row)
        del self._jobs[row.number]
        for branch in job.branches:
            yield from branch.likelihoods()


def _failed(group: Sequence[Branch], failure: Failure) -> Iterator[Likelihood]:
    for branch in group:
        yield from branch.failed(failure)
