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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from batchgen.engines.contract import Engine
from batchgen.input.sources import Chunk
from batchgen.output.schema import OutputLayout
from batchgen.planning.batches import sort_by_length
from batchgen.progress import RowProgress
from batchgen.records import Completion, Failure, Request, Response
from batchgen.run.open_part import OpenPart
from batchgen.run.requests import PendingRow, RequestBuilder
from batchgen.run.responses import ResponseBuilder
from batchgen.state.journal import Journal
from batchgen.state.parts import PartStore, SealedPart


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the loop of a run works with.

    Attributes:
        layout: the columns of the output.
        part_rows: input rows of a part.
        should_stop: whether to stop early; called after every answer.
        check_still_valid: raises if nothing may be saved any more: the lock is lost, or the input has changed.
        reuse: finds the responses of an earlier run to these rows.
    """

    request_builder: RequestBuilder
    response_builder: ResponseBuilder
    engine: Engine
    journal: Journal
    store: PartStore
    layout: OutputLayout
    run_id: str
    part_rows: int
    progress: RowProgress
    should_stop: Callable[[], bool]
    check_still_valid: Callable[[], None]
    reuse: Callable[[Sequence[PendingRow]], Sequence[Response]]


def generate_parts(context: RunContext, chunks: Iterator[Chunk]) -> dict[int, SealedPart]:
    """Answer the rows of all chunks and seal their parts; return the sealed parts by number.

    Returns early when `context.should_stop()` is true. The next start of the run then generates the rows in flight again, and
    restores the finished rows of unsealed parts from the journal.
    """
    open_parts: dict[int, OpenPart] = {}
    sealed: dict[int, SealedPart] = {}

    def seal_if_complete(part: OpenPart) -> None:
        if part.complete:
            del open_parts[part.number]
            sealed[part.number] = _seal(context, part)

    def requests() -> Iterator[Request]:
        """Open the next part when the engine has pulled all requests of the open ones."""
        for chunk in chunks:
            context.check_still_valid()
            part = open_parts[chunk.number] = open_part(context, chunk)
            reused = context.reuse(part.pending_rows())
            part.restore(reused)
            failed = _fail_unsendable(context, part)
            pending = missing_requests(context, part)
            context.journal.mark(request.index for request in pending)
            context.progress.add(failed, failed=failed)
            context.progress.add(len(reused))
            seal_if_complete(part)
            yield from pending

    for completion in context.engine.generate(requests()):
        part = open_parts[completion.index // context.part_rows]
        save_answer(context, part, completion)
        seal_if_complete(part)
        if context.should_stop():
            break
    return sealed


def open_part(context: RunContext, chunk: Chunk) -> OpenPart:
    """Prepare the rows of a chunk, and restore the responses that the journal has."""
    builder = context.request_builder
    part = OpenPart(chunk, builder.prepare_rows(chunk.rows(builder.columns), chunk.failures))
    part.restore(context.journal.answers(part.first, part.stop))
    return part


def _fail_unsendable(context: RunContext, part: OpenPart) -> int:
    """Add the responses of rows that cannot be sent to the engine; return their number."""
    build = context.response_builder.failed_responses
    failed = [(row, row.decoding) for row in part.rows if isinstance(row.decoding, Failure)]
    return sum(len(part.add_missing(build(row, failure))) for row, failure in failed)


def missing_requests(context: RunContext, part: OpenPart) -> list[Request]:
    """The requests of a part that have no response yet, in the order for the engine."""
    builder = context.request_builder
    requests = [r for r in builder.build_requests(part.rows) if part.lacks(r.index, r.sample)]
    return sort_by_length(requests) if builder.job.batching.sort == "length" else requests


def save_answer(context: RunContext, part: OpenPart, completion: Completion) -> None:
    """Build the response to a completion, and save it in the journal."""
    response = context.response_builder.build_response(part.row(completion.index), completion)
    part.add(response)
    context.journal.save(response)
    failed = int(completion.failure is not None)
    context.progress.add(1, new_tokens=len(completion.token_ids), failed=failed)


def _seal(context: RunContext, part: OpenPart) -> SealedPart:
    responses, redacted = part.responses(), part.redacted
    table = context.layout.table(
        part.table, responses, first=part.first, run_id=context.run_id, redacted=redacted
    )
    context.check_still_valid()
    sealed = context.store.seal(part.number, table)
    context.journal.delete(part.first, part.stop)
    return sealed
