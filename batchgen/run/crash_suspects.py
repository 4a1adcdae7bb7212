"""Rows that were in flight when the process died: answered first, so that the one which kills it is found.

    died once      in groups, each answered before the next is begun      ┐ whatever is in flight when it dies again
    died twice     alone                                                  ┘ is fewer rows, at last one
    three times    not asked any more: it was alone the third time

An engine pulls thousands of requests at once, so the first death says little. Innocent rows of a group are answered
by the next start, and are under no suspicion any more. A machine that went down accuses no row.
"""

from collections.abc import Iterator, Mapping, Sequence

from batchgen.input.sources import Chunk
from batchgen.records import Failure, Request
from batchgen.run.open_part import OpenPart
from batchgen.run.work import RunContext

SUSPECT_BATCH = 256
"""Suspects that are in flight together after one death: enough to keep an engine busy."""
MAX_DEATHS = 3
"""Deaths after which a row is not asked any more."""
CRASH_SUSPECT = Failure(
    "crash_suspect",
    f"the process died {MAX_DEATHS} times while this row was being answered, the last time with no other",
)


def answer_suspects(way: RunContext, chunks: Iterator[Chunk], deaths: Mapping[int, int]) -> None:
    """Have the suspects of these chunks answered, into the journal, or condemned.

    Args:
        way: what the work is done with.
        chunks: those that hold suspects.
        deaths: how often the process died while a row was in flight, by row.
    """
    for chunk in chunks:
        way.check()
        part = OpenPart(chunk, way.asking)
        part.restore(way.journal.answers(part.first, part.stop))
        requests = part.requests()
        for row in sorted({r.index for r in requests if deaths.get(r.index, 0) >= MAX_DEATHS}):
            _fail_row(way, part, row)
        for group in _groups(requests, deaths):
            if way.stop():
                return
            _answer(way, part, group)


def _fail_row(way: RunContext, part: OpenPart, row: int) -> None:
    refusals = part.refuse(row, CRASH_SUSPECT)
    for refusal in refusals:
        way.journal.keep(refusal)
    way.progress.rows(len(refusals), new_tokens=0, failed=len(refusals))


def _answer(way: RunContext, part: OpenPart, group: Sequence[Request]) -> None:
    way.journal.mark({request.index for request in group})
    for completion in way.engine.generate(group):
        way.journal.keep(part.keep(completion))
        way.progress.rows(
            1, new_tokens=len(completion.token_ids), failed=int(completion.failure is not None)
        )
    way.journal.flush()
    way.journal.unmark()


def _groups(requests: Sequence[Request], deaths: Mapping[int, int]) -> Iterator[Sequence[Request]]:
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
