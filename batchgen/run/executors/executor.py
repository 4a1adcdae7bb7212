"""The executor contract: who makes the parts of a run (`Executor`), from what (`PartsTask`), with what result (`MadeParts`).

    run.py ──PartsTask: the numbers of the missing parts──> Executor.make_parts ──MadeParts──> published by run.py

A part is opened by its number (`PartsTask.chunks`), and sealed by `PartStore.seal`, which never overwrites: parts may be made in
any order, by any number of processes, and a part that two of them make is sealed once. Where parts are made is not part of a
run's identity: every start of a run may have another executor.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from batchgen.input.sources import Chunk
from batchgen.progress import Reporter
from batchgen.records import InFlight
from batchgen.run.reuse import EarlierRun
from batchgen.run.setup import Setup
from batchgen.run.stop_signals import FailureWatch, StopCondition, TokenBudget
from batchgen.run.work import RunContext
from batchgen.state.identity import Identity
from batchgen.state.journal import Journal
from batchgen.state.parts import PartStore, SealedPart


@dataclass(frozen=True, slots=True)
class PartsTask:
    """The parts to make, and everything that they need.

    Attributes:
        numbers: of the parts to make; pulled one at a time, when there is capacity for one more.
        sealed: the numbers of the parts that are sealed already.
        expected_rows: output rows of these and of the parts to make, for display.
        failures: counts the failed responses; once it has a reason, no further part is begun.
        budget: the tokens that are left.
        should_stop: whether to stop early; called between steps.
        check_still_valid: raises if nothing may be saved any more; called before each part is sealed.
        earlier: the run whose responses are reused, if any.
    """

    setup: Setup
    identity: Identity
    numbers: Iterable[int]
    sealed: Collection[int]
    expected_rows: int
    store: PartStore
    reporter: Reporter
    failures: FailureWatch
    budget: TokenBudget
    should_stop: StopCondition
    check_still_valid: Callable[[], None]
    earlier: EarlierRun | None = None

    def chunks(self, numbers: Iterable[int]) -> Iterator[Chunk]:
        """The rows of parts, in the order of their numbers; ascending ones are one pass over the input."""
        reader = self.setup.chunk_reader(rows=self.identity.part_rows)
        return map(reader.read, numbers)

    @contextmanager
    def context(
        self, journal: Journal, saved_rows: int, in_flight: Callable[[], InFlight]
    ) -> Iterator[RunContext]:
        """What the loop of this process works with, for the block, in which progress is shown from `saved_rows` on."""
        rows = self.reporter.rows(
            self.setup.job.name,
            self.expected_rows,
            saved_rows,
            unit="answer" if self.setup.samples > 1 else "row",
            in_flight=in_flight,
        )
        with rows as progress:
            yield RunContext(
                request_builder=self.setup.request_builder,
                response_builder=self.setup.response_builder,
                journal=journal,
                store=self.store,
                layout=self.setup.checked_input.layout,
                run_id=self.identity.run_id,
                part_rows=self.identity.part_rows,
                progress=progress,
                failures=self.failures,
                should_stop=lambda: self.should_stop() or bool(self.failures.reason),
                check_still_valid=self.check_still_valid,
                earlier=self.earlier,
                budget=self.budget,
            )


@dataclass(frozen=True, slots=True)
class MadeParts:
    """The result of an executor.

    Attributes:
        sealed: the parts that it sealed, or found sealed by another process, by number.
        saved_rows: output rows that were saved before the first row was generated.
        facts: of the engines, for the manifest.
        load_seconds: until the first row.
        seconds: from the first row to the last.
        why: parts are missing; empty if the run was stopped.
    """

    sealed: Mapping[int, SealedPart]
    saved_rows: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    load_seconds: float = 0.0
    seconds: float = 0.0
    why: str = ""


class Executor(Protocol):
    """Makes the parts of a run."""

    @property
    def publishes(self) -> bool:
        """Whether the run is published once all parts are sealed; if not, the models of its evaluation are queried first."""

    def make_parts(self, task: PartsTask) -> MadeParts:
        """Make and seal all parts of a task; return early if the run is to stop.

        Raises:
            BatchgenError: the parts cannot be made; those that are sealed stay.
        """
