"""Memory stays small: at most two parts are open at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from batchgen.engines.echo import EchoEngine
from batchgen.input.sources import Chunk
from batchgen.jobfile.load import load_job
from batchgen.progress import RowProgress
from batchgen.run.setup import set_up
from batchgen.run.work import RunContext, generate_parts
from batchgen.state.journal import NoJournal
from batchgen.state.parts import PartStore, SealedPart
from batchgen.state.run_folder import RunFolder


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
        super().__init__(folder, compression="zstd", prefix="")
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
        engine=EchoEngine(setup.tokenizer.decode),
        journal=NoJournal(),
        store=WatchedStore(folder, seam),
        layout=setup.checked_input.layout,
        run_id="run",
        part_rows=10,
        progress=RowProgress(),
        should_stop=lambda: False,
        check_still_valid=lambda: None,
        reuse=lambda _: (),
    )
    chunks = seam.watched(setup.checked_input.source.chunks(setup.survey, rows=10))
    sealed = generate_parts(context, chunks)
    assert sorted(sealed) == list(range(10))
    assert seam.sealed == list(range(10))
    assert seam.most_open <= 2
