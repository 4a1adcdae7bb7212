"""READ FIRST: the whole way of a row, on one page.

    read        Chunk of rows                 input/sources.py     ┐
    render      Row -> Prompt                 prompts/render.py   │ pulled by the engine
    tokenize    Prompt -> Request             prompts/tokenize.py │ when it has room
    order       longest first                 planning/           ┘
    generate    Request -> Completion         engines/
    keep        Completion -> Response        run/open_part.py, state/journal.py
    seal        a complete part, on the disk  state/parts.py

The engine pulls: the next part's rows flow in while the long rows of this one finish. Answers that an earlier start
of the run got are restored from the journal, those of another run (`reuse.py`) likewise, and not asked for again. What comes before (settings,
model, lock) is in `run.py`, what comes after (publishing, the manifest) too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from batchgen.engines.contract import Engine
from batchgen.input.sources import Chunk
from batchgen.output.schema import OutputLayout
from batchgen.records import Request, Response
from batchgen.run.open_part import OpenPart
from batchgen.run.progress_bar import RunProgress
from batchgen.run.requests import PendingRow, RequestBuilder
from batchgen.state.journal import Journal
from batchgen.state.parts import PartStore, SealedPart


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the work of a run is done with.

    `check` raises if nothing may be committed any more: the lock is lost, or the input has changed. `reuse` has the
    answers of an earlier run to these rows.
    """

    asking: RequestBuilder
    engine: Engine
    journal: Journal
    store: PartStore
    layout: OutputLayout
    run_id: str
    part_rows: int
    progress: RunProgress
    stop: Callable[[], bool]
    check: Callable[[], None]
    reuse: Callable[[Sequence[PendingRow]], Sequence[Response]]


def generate_parts(way: RunContext, chunks: Iterator[Chunk]) -> dict[int, SealedPart]:
    """Answer the rows of all chunks and seal their parts; return these by number.

    Ends early, with the parts sealed so far, when `way.stop()` says so. Rows in flight are then given up: they
    are answered by the next run; those that are in wait in the journal.
    """
    open_parts: dict[int, OpenPart] = {}
    sealed: dict[int, SealedPart] = {}

    def seal_if_complete(part: OpenPart) -> None:
        if part.complete:
            del open_parts[part.number]
            sealed[part.number] = _seal(way, part)

    def requests() -> Iterator[Request]:
        for chunk in chunks:
            way.check()
            part = open_parts[chunk.number] = OpenPart(chunk, way.asking)
            part.restore(way.journal.answers(part.first, part.stop))
            reused = way.reuse(part.unanswered())
            part.restore(reused)
            asked = part.requests()
            way.journal.mark(request.index for request in asked)
            way.progress.rows(part.refused, new_tokens=0, failed=part.refused)
            way.progress.rows(len(reused), new_tokens=0, failed=0)
            seal_if_complete(part)
            yield from asked

    for completion in way.engine.generate(requests()):
        part = open_parts[completion.index // way.part_rows]
        way.journal.keep(part.keep(completion))
        way.progress.rows(
            1, new_tokens=len(completion.token_ids), failed=int(completion.failure is not None)
        )
        seal_if_complete(part)
        if way.stop():
            break
    return sealed


def _seal(way: RunContext, part: OpenPart) -> SealedPart:
    table = way.layout.table(
        part.rows,
        part.responses(),
        first=part.first,
        run_id=way.run_id,
        redacted=part.redacted,
    )
    way.check()
    sealed = way.store.seal(part.number, table)
    way.journal.forget(part.first, part.stop)
    return sealed
