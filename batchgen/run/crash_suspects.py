"""Crash suspects: rows that were in flight when the process died. They are answered first, to find the one that kills it.

    deaths of the row   how it is answered in the next start
    1                   in batches of `SUSPECT_BATCH`, one after the other: each further crash leaves fewer suspects
    2                   alone
    3                   not at all: marked failed, since it was alone at the third death

The journal chooses the suspects when it is opened (`state/sqlite_journal.py`): in flight, not answered, and the process
was killed. A row that is answered is no longer a suspect. A machine that went down makes no row a suspect.
"""

from collections.abc import Iterator, Mapping, Sequence

from batchgen.input.sources import Chunk
from batchgen.records import Failure, Request
from batchgen.run.open_part import OpenPart
from batchgen.run.work import RunContext, missing_requests, open_part, save_answer

SUSPECT_BATCH = 256
"""Suspects that are in flight together after one death: enough to keep an engine busy."""
MAX_DEATHS = 3
"""Deaths after which a row is marked failed."""
CRASH_SUSPECT = Failure(
    "crash_suspect",
    f"the process died {MAX_DEATHS} times while this row was in flight, the last time with this row alone",
)


def answer_suspects(
    context: RunContext, chunks: Iterator[Chunk], deaths: Mapping[int, int]
) -> None:
    """Answer the suspects of these chunks, or mark them failed; the results go to the journal.

    `deaths` has, by row index, how often the process died while the row was in flight.
    """
    for chunk in chunks:
        context.check_still_valid()
        part = open_part(context, chunk)
        requests = missing_requests(context, part)
        for row in sorted({r.index for r in requests if deaths.get(r.index, 0) >= MAX_DEATHS}):
            _fail_row(context, part, row)
        for batch in _batches(requests, deaths):
            if context.should_stop():
                return
            _answer(context, part, batch)


def _fail_row(context: RunContext, part: OpenPart, index: int) -> None:
    build = context.response_builder.failed_responses
    failed = part.add_missing(build(part.row(index), CRASH_SUSPECT))
    for response in failed:
        context.journal.save(response)
    context.progress.add(len(failed), failed=len(failed))


def _answer(context: RunContext, part: OpenPart, batch: Sequence[Request]) -> None:
    context.journal.mark({request.index for request in batch})
    for completion in context.engine.generate(batch):
        save_answer(context, part, completion)
    context.journal.flush()
    context.journal.unmark()


def _batches(requests: Sequence[Request], deaths: Mapping[int, int]) -> Iterator[Sequence[Request]]:
    alone: dict[int, list[Request]] = {}
    together: list[Request] = []
    for request in requests:
        count = deaths.get(request.index, 0)
        if count == 1:
            together.append(request)
        elif 1 < count < MAX_DEATHS:
            alone.setdefault(request.index, []).append(request)
    yield from alone.values()
    for start in range(0, len(together), SUSPECT_BATCH):
        yield together[start : start + SUSPECT_BATCH]
