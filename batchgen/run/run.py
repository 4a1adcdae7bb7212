"""A whole run: lock the folder, see what is there, answer the missing parts, publish.

    lock ─> set up ─> same job as before? ─> which parts are missing? ─> work ─> publish ─> manifest

The way of a row is in `generate_parts.py`. Knows nothing of the command line.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO

from batchgen.engines.contract import Engine
from batchgen.engines.registry import find_engine, open_engine
from batchgen.errors import StateError
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.evaluation.model_queries.scoring_pass import ScoringPasses, StoppedError
from batchgen.evaluation.scoring_models import ScoringModelOptions, scoring_passes
from batchgen.input.change_guard import ChangeGuard
from batchgen.input.sources import Chunk
from batchgen.jobfile.load import LoadedJob
from batchgen.output.publish import finish_release
from batchgen.run.crash_suspects import answer_suspects
from batchgen.run.preflight.disk_space import check_disk_space, estimate_space
from batchgen.run.progress_bar import RunProgress, silent_progress
from batchgen.run.publication import Publication, already_complete, clean, is_complete
from batchgen.run.result import RunResult
from batchgen.run.retry import RetrySetup
from batchgen.run.reuse import AnswerSource, ReuseCounts, open_reuse
from batchgen.run.setup import Setup, new_identity, set_up
from batchgen.run.stop_signals import Deadline, StopCondition, deadline_after
from batchgen.run.work import RunContext, generate_parts
from batchgen.section import parse_duration
from batchgen.state.identity import Identity, check_same_run, read_identity
from batchgen.state.journal import Journal, journal_of
from batchgen.state.lock import RunLock, hold_lock
from batchgen.state.parts import Counts, PartStore, SealedPart, count_responses
from batchgen.state.run_folder import RunFolder
from batchgen.storage.failpoints import arm

Start = Literal["resume", "retry-errors", "fresh"]
"""What becomes of a run that the output folder holds already: go on with it; answer its failed rows again; move it aside."""

ShowProgress = Callable[[str, int, int], AbstractContextManager[RunProgress]]
"""Opens the progress of a run: its name, its output rows, how many of them are there already."""


def run(  # noqa: PLR0913  # the face of the package: every argument but the job has a default
    loaded: LoadedJob,
    *,
    start: Start = "resume",
    incremental_from: Path | None = None,
    progress: ShowProgress = silent_progress,
    say: Callable[[str], None] = lambda _: None,
    terminal: TextIO | None = None,
    stop: Callable[[], bool] = lambda: False,
    deadlines: Sequence[Deadline] = (),
    opener: EngineOpener = open_engine,
) -> RunResult:
    """Run a job, or go on with it where it was stopped.

    Args:
        loaded: the job.
        start: whether to go on from what the output folder holds.
        incremental_from: folder of a complete run whose answers are reused where a row asks the same.
        progress: how to show the work.
        say: told, in a sentence, what is being waited for.
        terminal: where bars may be drawn while a model is fetched.
        stop: asked between steps; once true, the run stops and can be gone on with later.
        deadlines: when to stop by itself, beside `run.max_runtime`.
        opener: opens the engine, should it not be one of batchgen's own.

    Raises:
        BatchgenError: something stands in the way; its exit code says what kind of thing.
    """
    arm()
    if (limit := loaded.job.run.max_runtime) is not None:
        deadlines = [
            *deadlines,
            deadline_after(parse_duration(limit), f"run.max_runtime ({limit}) is over"),
        ]
    folder = RunFolder(Path(loaded.job.output.path))
    folder.create()
    with hold_lock(folder.lock) as lock:
        folder.clear_scratch()
        if start != "fresh":
            finish_release(folder)
        elif aside := _set_aside(folder, loaded):
            say(f"the old run is now {aside}")
            moved = not folder.manifest.exists()
            if moved and incremental_from and incremental_from.absolute() == folder.path:
                incremental_from = aside
        setup = set_up(loaded, say, terminal)
        identity = _identity(folder, setup)
        stopping = StopCondition(stop, deadlines)
        passes = scoring_passes(
            folder,
            ScoringModelOptions(opener=opener, stop=stopping, say=say),
            setup.scoring_model,
            evaluation=setup.evaluation,
            origin=setup.origin,
            schema=setup.schema,
        )
        if is_complete(folder, identity) and start != "retry-errors":
            return already_complete(folder, setup, passes, say)
        runner = _Runner(
            folder=folder,
            lock=lock,
            setup=setup,
            identity=identity,
            voice=Voice(progress, say),
            stop=stopping,
            passes=passes,
            reuse=open_reuse(
                folder, incremental_from, setup=setup, run_id=identity.run_id, say=say
            ),
        )
        return runner.go(start)


def _set_aside(folder: RunFolder, loaded: LoadedJob) -> Path | None:
    """Make room for a new run; with `publish: gated`, published answers stay until better ones replace them."""
    if loaded.job.output.publish == "gated" and folder.manifest.exists():
        with suppress(StateError):  # then nothing that is published is known to be whole
            finish_release(folder)
            return folder.set_state_aside()
    return folder.set_aside()


def _identity(folder: RunFolder, setup: Setup) -> Identity:
    """The identity of the run in the folder, or a new one."""
    now = new_identity(setup)
    known = read_identity(folder)
    if known is not None:
        check_same_run(folder, known, now)
        return known
    kept = setup.job.output.publish == "gated" and folder.manifest.exists()
    if folder.holds_answers() and not kept:
        raise StateError(
            f"{folder.path} holds answers, but not the state of the run that made them: {folder.run} is missing",
            hint="Write elsewhere with --output FOLDER, or start over with --fresh: they are moved aside.",
        )
    if not kept:  # otherwise it goes out with the answers
        folder.write_text(folder.job, setup.loaded.dump(), stage="job", mode=setup.file_mode)
    folder.write_json(folder.run, now.content(), stage="run")  # from here on it is a run
    return now


@dataclass(frozen=True, slots=True)
class Voice:
    """How a run speaks."""

    progress: ShowProgress
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Runner:
    """One start of a run, under the lock."""

    folder: RunFolder
    lock: RunLock
    setup: Setup
    identity: Identity
    voice: Voice
    stop: StopCondition
    passes: ScoringPasses
    reuse: AnswerSource

    def go(self, start: Start) -> RunResult:
        """Answer the missing rows, and publish if all are there."""
        with journal_of(
            self.folder,
            run_id=self.identity.run_id,
            samples=self.setup.asking.samples,
            say=self.voice.say,
        ) as journal:
            if start == "retry-errors":
                self._reopen(journal)
            complete = is_complete(self.folder, self.identity)
            with closing(self.passes.engine):
                result = None if complete else self._answer(journal)
        if result is None:  # no row had failed
            return already_complete(self.folder, self.setup, self.passes, self.voice.say)
        if result.outcome == "done":
            clean(self.folder)
            self.passes.cache.delete_unused()
        return result

    @property
    def _store(self) -> PartStore:
        output = self.setup.job.output
        return PartStore(self.folder, compression=output.compression, prefix=output.prefix)

    def _reopen(self, journal: Journal) -> None:
        failed = RetrySetup(
            folder=self.folder,
            store=self._store,
            journal=journal,
            layout=self.setup.reading.layout,
            identity=self.identity,
            samples=self.setup.asking.samples,
        ).reopen()
        self.voice.say(f"{failed:,} answers that failed are asked for again")

    def _answer(self, journal: Journal) -> RunResult:
        job, store = self.setup.job, self._store
        sealed = store.sealed()
        self._forget(sealed, journal)
        resumed = self._saved(sealed, journal)
        began = time.monotonic()
        facts: Mapping[str, Any] = find_engine(job.model.engine).info.facts()
        loaded_at = worked_at = began
        if len(sealed) < self._part_count:
            self._check_room(self._output_rows - resumed.rows)
            engine = self.passes.engine.get()
            loaded_at = time.monotonic()
            sealed |= self._work(engine, store, journal, sealed=sealed, resumed=resumed)
            worked_at = time.monotonic()
            facts = {**facts, **engine.facts()}
            journal.flush()
        result = RunResult(
            outcome="done" if len(sealed) == self._part_count else "stopped",
            folder=self.folder,
            run_id=self.identity.run_id,
            counts=self._saved(sealed, journal),
            expected_rows=self._output_rows,
            resumed_rows=resumed.rows,
            seconds=worked_at - loaded_at,
            load_seconds=loaded_at - began,
            max_errors=job.run.max_errors,
            engine=facts,
            why_stopped="" if len(sealed) == self._part_count else self.stop.reason(),
            incremental=self._reused(sealed) if len(sealed) == self._part_count else None,
        )
        if result.outcome != "done":
            return result
        publication = Publication(self.folder, self.lock, self.setup, self.identity)
        try:
            return publication.publish(sealed, result, self.passes)
        except StoppedError:
            return replace(result, outcome="stopped", why_stopped=self.stop.reason())

    def _reused(self, sealed: Mapping[int, SealedPart]) -> ReuseCounts | None:
        parts = [part.path for part in sealed.values()]
        return self.reuse.count(parts, self.identity.run_id, self.setup.job.output.prefix)

    def _forget(self, sealed: Mapping[int, SealedPart], journal: Journal) -> None:
        """Delete what the journal still holds of sealed parts, should the last process have died in between."""
        size = self.identity.part_rows
        for number in {r.index // size for r in journal.answers(0, self.identity.rows)}:
            if number in sealed:
                journal.forget(number * size, (number + 1) * size)

    def _check_room(self, rows: int) -> None:
        survey, asking = self.setup.survey, self.setup.asking
        share = rows / max(1, self._output_rows)
        needed = estimate_space(
            rows,
            new_tokens=asking.decoding.max_new_tokens,
            input_bytes=int(share * sum(f.size for f in survey.files) * asking.samples),
        )
        check_disk_space(self.folder.private, needed, self.voice.say)

    def _saved(self, sealed: Mapping[int, SealedPart], journal: Journal) -> Counts:
        waiting = count_responses(journal.answers(0, self.identity.rows))
        return sum((part.counts for part in sealed.values()), waiting)

    @property
    def _part_count(self) -> int:
        return math.ceil(self.identity.rows / self.identity.part_rows)

    @property
    def _output_rows(self) -> int:
        return self.identity.rows * self.setup.asking.samples

    def _work(
        self,
        engine: Engine,
        store: PartStore,
        journal: Journal,
        *,
        sealed: Mapping[int, SealedPart],
        resumed: Counts,
    ) -> dict[int, SealedPart]:
        with self.voice.progress(self.setup.job.name, self._output_rows, resumed.rows) as progress:
            way = RunContext(
                asking=self.setup.asking,
                engine=engine,
                journal=journal,
                store=store,
                layout=self.setup.reading.layout,
                run_id=self.identity.run_id,
                part_rows=self.identity.part_rows,
                progress=progress,
                stop=self.stop,
                check=self._check_that(ChangeGuard(self.setup.survey.files)),
                reuse=self.reuse.answers,
            )
            if deaths := journal.deaths():
                self.voice.say(
                    f"the process died with {len(deaths):,} rows in flight: they are answered first"
                )
                innocent = set(range(self._part_count)) - {r // way.part_rows for r in deaths}
                answer_suspects(way, self._chunks(skip=innocent), deaths)
            return generate_parts(way, self._chunks(skip=sealed.keys()))

    def _check_that(self, input_is: ChangeGuard) -> Callable[[], None]:
        def check() -> None:
            self.lock.check()
            input_is.look()

        return check

    def _chunks(self, skip: Collection[int]) -> Iterator[Chunk]:
        source, survey = self.setup.reading.source, self.setup.survey
        return source.chunks(survey, rows=self.identity.part_rows, skip=skip)
