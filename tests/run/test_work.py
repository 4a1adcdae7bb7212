"""Memory stays small: at most two parts are open at a time."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest

from batchgen.engines.echo import EchoEngine
from batchgen.input.sources import Chunk
from batchgen.jobfile.load import load_job
from batchgen.progress import RowProgress
from batchgen.run.run import run
from batchgen.run.setup import set_up
from batchgen.run.stop_signals import FailureLimit, FailureWatch
from batchgen.run.work import RunContext, generate_parts
from batchgen.state.journal import NoJournal
from batchgen.state.parts import PartStore, SealedPart
from batchgen.state.run_folder import RunFolder
from tests.soak.harness import OF_THE_RUN


@dataclass
class Seam:
    """Counts parts opened and sealed."""

    opened: int = 0
    sealed: list[int] = field(default_factory=list)
    most_open: int = 0

    def watched(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            self.opened += 1
            self.most_open = max(self.most_open, self.opened - len(self.sealed))
            yield chunk


class WatchedStore(PartStore):
    def __init__(self, folder: RunFolder, seam: Seam) -> None:
        super().__init__(folder, compression="zstd")
        self._seam = seam

    def seal(self, number: int, table: pa.Table) -> SealedPart:
        self._seam.sealed.append(number)
        return super().seal(number, table)


def test_at_most_two_parts_are_open_and_they_are_sealed_in_order(make_job: object) -> None:
    assert callable(make_job)
    job: Path = make_job([{"q": "x" * (i % 7 + 1)} for i in range(100)])
    setup = set_up(load_job(job))
    folder = RunFolder(job.parent / "out")
    folder.create()
    seam = Seam()
    context = RunContext(
        request_builder=setup.request_builder,
        response_builder=setup.response_builder,
        journal=NoJournal(),
        store=WatchedStore(folder, seam),
        layout=setup.checked_input.layout,
        run_id="run",
        part_rows=10,
        progress=RowProgress(),
        failures=FailureWatch(FailureLimit(setup.job.run, 100), 0),
        should_stop=lambda: False,
        check_still_valid=lambda: None,
    )
    chunks = seam.watched(setup.chunks(rows=10))
    sealed = generate_parts(context, EchoEngine(setup.tokenizer.decode), chunks)
    assert sorted(sealed) == list(range(10))
    assert seam.sealed == list(range(10))
    assert seam.most_open <= 2


@pytest.mark.parametrize("looks_before", [0, 7, 25, 39])
def test_a_run_stops_while_the_rows_of_a_part_are_prepared(
    make_job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, looks_before: int
) -> None:
    """Such as with a slow template: the run does not wait until all rows of the part are rendered."""
    work = sys.modules[generate_parts.__module__]
    monkeypatch.setattr(work, "_SECONDS_BETWEEN_CHECKS", 0.0)
    job = make_job([{"q": f"row {n}"} for n in range(40)], batching={"part_rows": 40})
    whole = run(load_job(job, overrides=["output.path=whole"])).frame()
    looks = iter(range(looks_before))
    stopped = run(load_job(job), stop=lambda: next(looks, None) is None)
    assert stopped.outcome == "stopped"
    assert stopped.exit_code == 75
    assert stopped.counts.rows == 0
    done = run(load_job(job))
    assert done.outcome == "done"
    assert done.frame().drop(OF_THE_RUN).equals(whole.drop(OF_THE_RUN))
