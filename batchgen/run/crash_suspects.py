"""Crash suspects: rows that were in flight at two deaths of the process in a row. They are answered in a child process.

    deaths in a row   how the row is answered by the next start
    1                 like any other: preemption, power and the out-of-memory killer end a process whatever it computes
    2                 in a child process, together with the other suspects
    child dies        its rows in flight are halved, each half in a new child, until a row is alone
    2 alone           not at all: marked failed

Only the death of a child, while this process lives, condemns a row. The journal counts deaths when it is opened
(`state/sqlite_journal.py`): in flight, not answered, and the process was killed. A row that is answered is no longer a
suspect. A machine that went down makes no row a suspect.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from batchgen.engines.contract import Engine
from batchgen.errors import DeathError
from batchgen.input.sources import Chunk
from batchgen.records import Failure, Request
from batchgen.run.open_part import OpenPart, PreparationStoppedError
from batchgen.run.work import RunContext, missing_requests, open_part, save_answer

SUSPECT_DEATHS = 2
"""Deaths of the process in a row, with a row in flight, after which it is answered in a child process."""
ANNOUNCEMENT = (
    "answering rows in a child process, since the process died twice in a row with them in flight"
)
_DEATHS_ALONE = 2
"""Deaths of a child with only this row in flight, after which the row is marked failed."""
CRASH_SUSPECT = Failure(
    "crash_suspect",
    f"the process died {SUSPECT_DEATHS} times in a row while this row was in flight, and then {_DEATHS_ALONE} times with this row alone",
)


def answer_suspects(
    context: RunContext,
    chunks: Iterable[Chunk],
    suspects: Iterable[int],
    open_child: Callable[[], Engine],
) -> None:
    """Answer the suspects of these chunks in child processes, or mark them failed; the results go to the journal.

    Args:
        context: of the run.
        chunks: those with suspects.
        suspects: indices of rows.
        open_child: opens the engine in a new process. The death of the process raises DeathError in `generate`.
    """
    wanted = set(suspects)
    parts: dict[int, OpenPart] = {}
    requests: list[Request] = []
    for chunk in chunks:
        context.check_still_valid()
        try:
            part = parts[chunk.number] = open_part(context, chunk)
        except PreparationStoppedError:
            return
        requests += [r for r in missing_requests(context, part) if r.index in wanted]
    context.journal.mark({request.index for request in requests})
    groups = [requests] if requests else []
    alone: Counter[int] = Counter()
    while groups and not context.should_stop():
        with closing(open_child()) as child:
            trial = _answer(context, parts, groups.pop(), child)
        in_flight = _by_row(trial.in_flight.values())
        if len(in_flight) == 1:
            (row,) = in_flight
            alone[row] += 1
            if alone[row] == _DEATHS_ALONE:
                _fail_row(context, parts[row // context.part_rows], row)
                in_flight = {}
        groups += [group for group in (list(trial.not_begun), *_halves(in_flight)) if group]
    context.journal.flush()
    context.journal.unmark()


@dataclass(slots=True)
class _Trial:
    """The requests that a child has not answered: those that it had pulled when it died, and the others."""

    not_begun: Iterator[Request]
    in_flight: dict[tuple[int, int], Request] = field(default_factory=dict)

    def pull(self) -> Iterator[Request]:
        for request in self.not_begun:
            self.in_flight[request.index, request.sample] = request
            yield request


def _answer(
    context: RunContext, parts: dict[int, OpenPart], group: Sequence[Request], child: Engine
) -> _Trial:
    trial = _Trial(iter(group))
    try:
        for completion in child.generate(trial.pull()):
            save_answer(context, parts[completion.index // context.part_rows], completion)
            del trial.in_flight[completion.index, completion.sample]
    except DeathError:
        context.journal.flush()
    else:
        trial.in_flight.clear()  # stopped: the next start answers them
    return trial


def _by_row(requests: Iterable[Request]) -> dict[int, list[Request]]:
    rows: dict[int, list[Request]] = {}
    for request in requests:
        rows.setdefault(request.index, []).append(request)
    return rows


def _halves(rows: dict[int, list[Request]]) -> Iterator[list[Request]]:
    """The requests of each half of the rows; of a single row, all of them."""
    indices = list(rows)
    middle = len(indices) // 2
    for half in (indices[:middle], indices[middle:]):
        yield [request for index in half for request in rows[index]]


def _fail_row(context: RunContext, part: OpenPart, index: int) -> None:
    for sample in range(context.request_builder.job.decoding.num_return_sequences):
        row = part.row(index, sample) if part.lacks(index, sample) else None
        if row is not None:
            response = context.response_builder.failed_response(row, sample, CRASH_SUSPECT)
            part.add(response)
            context.journal.save(response)
            context.progress.add(1, failed=1)
