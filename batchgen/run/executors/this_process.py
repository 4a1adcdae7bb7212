"""Parts made in this process, by one engine; its workers, if it has any, are processes on this machine."""

import time
from dataclasses import dataclass
from functools import partial

from batchgen.evaluation.model_queries.scoring_model import EngineOpener, LazyEngine
from batchgen.records import InFlight
from batchgen.run.crash_suspects import ANNOUNCEMENT, SUSPECT_DEATHS, answer_suspects
from batchgen.run.executors.executor import MadeParts, PartsTask
from batchgen.run.work import generate_parts
from batchgen.state.journal import Journal, count_saved_rows


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """This process.

    Attributes:
        journal: where answers are saved whose part is not sealed yet.
        engine: opened for the first part; stays open.
        opener: opens a second engine, in a child process, for rows that may have crashed this process.
    """

    journal: Journal
    engine: LazyEngine
    opener: EngineOpener
    publishes: bool = True

    def make_parts(self, task: PartsTask) -> MadeParts:
        self._answer_suspects(task)
        saved = self._saved_rows(task)
        began = time.monotonic()
        engine = self.engine.get()
        loaded_at = time.monotonic()
        with task.context(self.journal, saved, engine.in_flight) as context:
            sealed = generate_parts(context, engine, task.chunks(task.numbers))
        worked_at = time.monotonic()
        self.journal.flush()
        return MadeParts(sealed, saved, engine.facts(), loaded_at - began, worked_at - loaded_at)

    def _saved_rows(self, task: PartsTask) -> int:
        return count_saved_rows(self.journal, task.identity, task.sealed)

    def _answer_suspects(self, task: PartsTask) -> None:
        deaths = self.journal.deaths()
        suspects = {row for row in deaths if deaths[row] >= SUSPECT_DEATHS}
        if not suspects:
            return
        task.reporter.info(f"{ANNOUNCEMENT}: {len(suspects):,} rows")
        scoring_model = task.setup.scoring_model
        open_child = partial(scoring_model.open_isolated, self.opener, task.should_stop)
        with task.context(self.journal, self._saved_rows(task), InFlight) as context:
            parts = sorted({row // context.part_rows for row in suspects})
            answer_suspects(context, task.chunks(parts), suspects, open_child)
