"""READ FIRST: the path of a row through the program, on one page.

    read        Chunk of rows                 input/sources.py    ┐
    prepare     Row -> PendingRow             run/requests.py,    │ the engine pulls requests
                                              prompts/            │ when it has capacity
    request     PendingRow -> Request         run/requests.py     │
    order       longest prompt first          planning/batches.py ┘
    generate    Request -> Completion         engines/
    respond     Completion -> Response        run/responses.py
    journal     a response, saved             state/journal.py
    seal        a complete part, saved        state/parts.py

The engine reads the rows of the next part while the longest rows of this part still run. Rows that an earlier start of the
run answered are restored from the journal; with `--incremental-from`, rows of an earlier run are reused (`reuse.py`). Neither
is generated again. `run.py` does what comes before (job, model, lock) and after (publishing, manifest).
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

import numpy as np
import pyarrow as pa

from batchgen.engines.contract import Engine
from batchgen.input.sources import Chunk
from batchgen.output.schema import OutputLayout, UnchangedRows
from batchgen.planning.batches import sort_by_length
from batchgen.progress import RowProgress
from batchgen.records import Completion, Failure, Request, Response
from batchgen.run.open_part import LaterTurns, OpenPart, PreparationStoppedError
from batchgen.run.requests import PendingRow, RequestBuilder
from batchgen.run.responses import ResponseBuilder
from batchgen.run.stop_signals import FailureWatch, TokenBudget
from batchgen.state.journal import Journal
from batchgen.state.parts import PartStore, SealedPart

MARKED_REQUESTS = 256
"""Requests whose rows are marked as in flight at once, shortly before the engine pulls them."""
_SECONDS_BETWEEN_CHECKS = 1.0
"""While the rows of a part are prepared."""


class ReusableRun(Protocol):
    """An earlier run with responses to unchanged rows; `EarlierRun` is one."""

    def unchanged_rows(self, chunk: Chunk, skip: Collection[int] = ()) -> UnchangedRows | None: ...

    def responses(self, pending: Sequence[PendingRow]) -> Sequence[Response]: ...


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the loop of a run works with.

    Attributes:
        layout: the columns of the output.
        part_rows: input rows of a part.
        failures: counts failed responses.
        should_stop: whether to stop early; called after every answer.
        check_still_valid: raises if nothing may be saved any more: the lock is lost, or the input has changed.
        earlier: the run whose responses are reused, if any.
        budget: ends the stream of requests when its tokens are used.
    """

    request_builder: RequestBuilder
    response_builder: ResponseBuilder
    journal: Journal
    store: PartStore
    layout: OutputLayout
    run_id: str
    part_rows: int
    progress: RowProgress
    failures: FailureWatch
    should_stop: Callable[[], bool]
    check_still_valid: Callable[[], None]
    earlier: ReusableRun | None = None
    budget: TokenBudget = field(default_factory=lambda: TokenBudget(None, 0))


def generate_parts(
    context: RunContext, engine: Engine, chunks: Iterator[Chunk]
) -> dict[int, SealedPart]:
    """Answer the rows of all chunks and seal their parts; return the sealed parts by number.

    Returns early when `context.should_stop()` is true. The next start of the run then generates the rows in flight again, and
    restores the finished rows of unsealed parts from the journal.
    """
    work = _Work(context, chunks)
    before = -1
    while work.answered > before and not context.budget.reason:
        before = work.answered
        for completion in context.budget.limited(engine.generate, work):
            work.add(completion)
            # Looked at after an answer, so that every start saves one at least.
            if context.should_stop():
                return work.sealed
        if not work.following:
            break
    return work.sealed


class _Work(Iterator[Request]):
    """The open parts, and their requests in the order for the engine.

    Turns that follow from answers come before other rows, so that their parts are complete soon. After its end the
    iterator may have more of them.
    """

    def __init__(self, context: RunContext, chunks: Iterator[Chunk]) -> None:
        self.sealed: dict[int, SealedPart] = {}
        self.following: deque[Request] = deque()
        self.answered = 0
        self._context = context
        self._open: dict[int, OpenPart] = {}
        self._first = self._first_requests(chunks)

    def __next__(self) -> Request:
        return self.following.popleft() if self.following else next(self._first)

    def add(self, completion: Completion) -> None:
        """Save the answer to a request."""
        self.answered += 1
        part = self._open[completion.index // self._context.part_rows]
        self.following.extend(save_answer(self._context, part, completion))
        self._seal_if_complete(part)

    def _first_requests(self, chunks: Iterator[Chunk]) -> Iterator[Request]:
        """Open the next part when the engine has pulled all requests of the open ones."""
        for part in _opened(self._context, chunks):
            self._open[part.number] = part
            pending = _start_part(self._context, part)
            self._seal_if_complete(part)
            yield from _marked(self._context, part, pending)
            # Without requests, no completion follows after which to stop.
            if not pending and self._context.should_stop():
                return

    def _seal_if_complete(self, part: OpenPart) -> None:
        if part.complete:
            del self._open[part.number]
            self.sealed[part.number] = _seal(self._context, part)


def _opened(context: RunContext, chunks: Iterator[Chunk]) -> Iterator[OpenPart]:
    """The parts of the chunks, opened one at a time, until the run is to stop."""
    for chunk in takewhile(lambda _: not context.failures.reason, chunks):
        context.check_still_valid()
        try:
            part = open_part(context, chunk)
        except PreparationStoppedError:
            return
        yield part


def _marked(context: RunContext, part: OpenPart, requests: Sequence[Request]) -> Iterator[Request]:
    for start in range(0, len(requests), MARKED_REQUESTS):
        block = requests[start : start + MARKED_REQUESTS]
        context.journal.mark({row for one in block for row in part.conversation(one.index)})
        yield from block


def open_part(context: RunContext, chunk: Chunk) -> OpenPart:
    """Prepare the rows of a chunk, and restore the responses that the journal has.

    Rows that have none there and are provably unchanged since an earlier run are not prepared. PreparationStoppedError if
    the run is to stop.
    """
    saved = list(context.journal.answers(chunk.first, chunk.first + len(chunk.ids)))
    unchanged = None
    if context.earlier is not None:
        unchanged = context.earlier.unchanged_rows(chunk, {response.index for response in saved})
        if unchanged is not None and context.request_builder.preparer.asks_later:
            unchanged = _of_whole_conversations(context, chunk, unchanged)
    known = set() if unchanged is None else set((unchanged.positions + chunk.first).tolist())
    changed = len(known) < len(chunk.ids)
    rows = [row for row in chunk.rows() if row.index not in known] if changed else []
    check = _stop_check(context.should_stop)
    builder = context.request_builder
    later = {row.index: row for row in rows if builder.waits(row)}
    first = [row for row in rows if row.index not in later]
    pending = builder.prepare_rows(first, chunk.failures, check)
    samples = builder.job.decoding.num_return_sequences
    part = OpenPart(chunk, pending, unchanged, LaterTurns(later, builder.prepare_later, samples))
    part.restore(saved)
    return part


def _of_whole_conversations(
    context: RunContext, chunk: Chunk, unchanged: UnchangedRows
) -> UnchangedRows:
    """Those of conversations of which all turns are unchanged: a later turn needs the answers to the others."""
    begins = [not context.request_builder.waits(row) for row in chunk.rows()]
    conversations = np.cumsum(begins)
    missing = np.ones(len(begins), np.bool_)
    missing[unchanged.positions] = False
    broken = np.unique(conversations[missing])
    whole = ~np.isin(conversations[unchanged.positions], broken)
    return UnchangedRows(unchanged.positions[whole], unchanged.answers.filter(pa.array(whole)))


def _stop_check(should_stop: Callable[[], bool]) -> Callable[[], None]:
    """Raises PreparationStoppedError if the run is to stop; looks once a second, since most prompts take a millisecond."""
    due = time.monotonic() + _SECONDS_BETWEEN_CHECKS

    def check() -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        if should_stop():
            raise PreparationStoppedError
        due = time.monotonic() + _SECONDS_BETWEEN_CHECKS

    return check


def _start_part(context: RunContext, part: OpenPart) -> list[Request]:
    """Add the responses that need no engine; return the requests that do, none if too many rows have failed."""
    reused = 0
    asked: set[str] = set()
    # Of a conversation, each turn is known only after the answer to the one before it is reused.
    while context.earlier and (
        pending := [row for row in part.pending_rows() if row.row_fingerprint not in asked]
    ):
        asked |= {row.row_fingerprint for row in pending}
        reused += part.restore(context.earlier.responses(pending))
    if part.unchanged is not None:
        context.progress.add(part.unchanged.answers.num_rows)
    failed = _fail_unsendable(context, part)
    whole_part = part.unchanged is None and len(failed) == part.expected
    context.failures.add_unsendable(failed, whole_part=whole_part)
    context.progress.add(len(failed), failed=len(failed))
    context.progress.add(reused)
    if context.failures.reason:
        for response in failed:  # for the status of the run, if the part is not sealed
            context.journal.save(response)
        return []
    requests = missing_requests(context, part)
    context.progress.begin(
        len(requests),
        prompt_tokens=sum(len(request.token_ids) for request in requests),
        most_new_tokens=sum(request.decoding.max_new_tokens for request in requests),
    )
    return requests


def _fail_unsendable(context: RunContext, part: OpenPart) -> list[Response]:
    """Add the responses of rows that cannot be sent to the engine, and return them."""
    builder = context.response_builder
    rows = [(row, row.decoding) for row in part.rows if isinstance(row.decoding, Failure)]
    failed = [f for row, why in rows for f in part.add_missing(builder.failed_responses(row, why))]
    for row, sample in part.later_turns():
        if isinstance(row.decoding, Failure):
            failed.append(builder.failed_response(row, sample, row.decoding))
            part.add(failed[-1])
    return failed


def missing_requests(context: RunContext, part: OpenPart) -> list[Request]:
    """The requests of a part that have no response yet, in the order for the engine."""
    builder = context.request_builder
    requests = [r for r in builder.build_requests(part.rows) if part.lacks(r.index, r.sample)]
    requests += [
        builder.build_request(row, sample)
        for row, sample in part.later_turns()
        if not isinstance(row.decoding, Failure)
    ]
    requests = list(map(part.in_conversation, requests))
    return sort_by_length(requests) if builder.job.batching.sort == "length" else requests


def save_answer(context: RunContext, part: OpenPart, completion: Completion) -> list[Request]:
    """Build the response to a completion, and save it in the journal; return the request of the next turn, if there is one.

    Turns that cannot be asked get their responses as well.
    """
    index, sample = completion.index, completion.sample
    row = part.row(index, sample)
    if row is None:
        raise AssertionError(f"row {index} was answered before it was asked")
    response = context.response_builder.build_response(row, completion)
    _save(context, part, response, prompt_tokens=len(row.token_ids))
    while (row := part.next_turn(index, sample)) is not None:
        if not isinstance(row.decoding, Failure):
            most, prompt = row.decoding.max_new_tokens, len(row.token_ids)
            context.progress.begin(1, prompt_tokens=prompt, most_new_tokens=most)
            return [part.in_conversation(context.request_builder.build_request(row, sample))]
        _save(context, part, context.response_builder.failed_response(row, sample, row.decoding))
        index += 1
    return []


def _save(
    context: RunContext, part: OpenPart, response: Response, *, prompt_tokens: int = 0
) -> None:
    part.add(response)
    context.journal.save(response)
    context.failures.add(response)
    failed = int(response.finish_reason == "error")
    context.progress.add(
        1, new_tokens=response.output_tokens or 0, failed=failed, prompt_tokens=prompt_tokens
    )


def _seal(context: RunContext, part: OpenPart) -> SealedPart:
    table = context.layout.table(
        part.table,
        part.responses(),
        first=part.first,
        run_id=context.run_id,
        redacted=part.redacted,
        unchanged=part.unchanged,
    )
    context.check_still_valid()
    sealed = context.store.seal(part.number, table)
    context.journal.delete(part.first, part.stop)
    return sealed
