"""A whole run: lock the folder, find the missing parts, generate them, publish.

    lock ─> set up ─> same job as before? ─> which parts are missing? ─> generate ─> publish ─> manifest

`work.py` is the path of a row.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import find_engine, open_engine
from batchgen.errors import StateError
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.evaluation.model_queries.scoring_pass import ScoringPasses, StoppedError
from batchgen.evaluation.scoring_models import ScoringModelOptions, scoring_passes
from batchgen.input.change_guard import ChangeGuard
from batchgen.input.sources import Chunk
from batchgen.jobfile.load import LoadedJob
from batchgen.output.publish import finish_release
from batchgen.progress import SILENT, Reporter
from batchgen.run.crash_suspects import answer_suspects
from batchgen.run.preflight.disk_space import check_disk_space
from batchgen.run.publication import Publication, already_complete, clean, is_complete
from batchgen.run.result import RunResult
from batchgen.run.retry import RowReopener
from batchgen.run.reuse import EarlierRun, open_reuse
from batchgen.run.setup import Setup, new_identity, set_up
from batchgen.run.stop_signals import Deadline, StopCondition, deadline_after
from batchgen.run.work import RunContext, generate_parts
from batchgen.section import parse_duration
from batchgen.state.identity import Identity, check_same_run, read_identity
from batchgen.state.journal import Journal, open_journal
from batchgen.state.lock import RunLock, hold_lock
from batchgen.state.parts import Counts, PartStore, SealedPart, count_responses
from batchgen.state.run_folder import RunFolder
from batchgen.storage.failpoints import arm

Start = Literal["resume", "retry-errors", "fresh"]
"""What to do with a run that is already in the output folder: resume it, generate its failed rows again, or move it aside."""


def run(  # noqa: PLR0913  # public: every argument but the job has a default
    loaded: LoadedJob,
    *,
    start: Start = "resume",
    incremental_from: Path | None = None,
    reporter: Reporter = SILENT,
    stop: Callable[[], bool] = lambda: False,
    deadlines: Sequence[Deadline] = (),
    opener: EngineOpener = open_engine,
) -> RunResult:
    """Run a job, or resume it.

    Args:
        loaded: the job.
        start: what to do with a run that is already in the output folder.
        incremental_from: folder of a complete run whose answers are reused for unchanged rows.
        reporter: receives messages and progress.
        stop: called between steps; once true, the run stops and can be resumed later.
        deadlines: when to stop, in addition to `run.max_runtime`.
        opener: opens the engine; for engines that are not in the registry.

    Raises:
        BatchgenError: the run cannot start or cannot finish; the exit code is the kind of failure.
    """
    arm()
    if (limit := loaded.job.run.max_runtime) is not None:
        reason = f"run.max_runtime ({limit}) is over"
        deadlines = [*deadlines, deadline_after(parse_duration(limit), reason)]
    folder = RunFolder(Path(loaded.job.output.path))
    folder.create()
    with hold_lock(folder.lock) as lock:
        folder.clear_scratch()
        if start != "fresh":
            finish_release(folder)
        elif aside := _set_aside(folder, loaded):
            reporter.info(f"the old run is now {aside}")
            moved = not folder.manifest.exists()
            if moved and incremental_from and incremental_from.absolute() == folder.path:
                incremental_from = aside
        setup = set_up(loaded, reporter)
        identity = _identity(folder, setup)
        stopping = StopCondition(stop, deadlines)
        passes = scoring_passes(
            folder,
            ScoringModelOptions(opener=opener, should_stop=stopping, reporter=reporter),
            setup.scoring_model,
            evaluation=setup.evaluation,
            origin=setup.origin,
            schema=setup.schema,
        )
        if is_complete(folder, identity) and start != "retry-errors":
            return already_complete(folder, setup, passes, reporter)
        earlier = open_reuse(
            folder, incremental_from, setup=setup, run_id=identity.run_id, reporter=reporter
        )
        runner = _Runner(folder, lock, setup, identity, reporter, stopping, passes, earlier)
        return runner.run(start)


def _set_aside(folder: RunFolder, loaded: LoadedJob) -> Path | None:
    """Move an old run aside; with `publish: gated`, its published answers stay until better ones replace them."""
    if loaded.job.output.publish == "gated" and folder.manifest.exists():
        with suppress(StateError):  # then the published answers may be incomplete
            finish_release(folder)
            return folder.set_state_aside()
    return folder.set_aside()


def _identity(folder: RunFolder, setup: Setup) -> Identity:
    """The identity of the run in the folder, or a new one."""
    now = new_identity(setup)
    if (recorded := read_identity(folder)) is not None:
        check_same_run(folder, recorded, now)
        return recorded
    kept = setup.job.output.publish == "gated" and folder.manifest.exists()
    if folder.holds_answers() and not kept:
        raise StateError(
            f"{folder.path} contains answers, but not the state of the run that generated them: {folder.run} is missing",
            hint="Choose another folder with --output FOLDER, or move the answers aside with --fresh.",
        )
    if not kept:  # otherwise it is published with the answers
        folder.write_text(folder.job, setup.loaded.dump(), stage="job", mode=setup.file_mode)
    folder.write_json(folder.run, now.content(), stage="run")  # from here on it is a run
    return now


@dataclass(frozen=True, slots=True)
class _Runner:
    """One start of a run, under the lock."""

    folder: RunFolder
    lock: RunLock
    setup: Setup
    identity: Identity
    reporter: Reporter
    stop: StopCondition
    passes: ScoringPasses
    earlier: EarlierRun | None

    def run(self, start: Start) -> RunResult:
        run_id, samples = self.identity.run_id, self.setup.samples
        opened = open_journal(self.folder, run_id=run_id, samples=samples, reporter=self.reporter)
        with opened as journal:
            if start == "retry-errors":
                self._reopen(journal)
            complete = is_complete(self.folder, self.identity)
            with closing(self.passes.engine):
                result = None if complete else self._answer(journal)
        if result is None:  # no row had failed
            return already_complete(self.folder, self.setup, self.passes, self.reporter)
        if result.outcome == "done":
            clean(self.folder)
            self.passes.cache.delete_unused()
        return result

    @property
    def _store(self) -> PartStore:
        output = self.setup.job.output
        return PartStore(self.folder, compression=output.compression, prefix=output.prefix)

    def _reopen(self, journal: Journal) -> None:
        layout, samples = self.setup.checked_input.layout, self.setup.samples
        reopener = RowReopener(self.folder, self._store, journal, layout, self.identity, samples)
        failed = reopener.reopen_failed_rows(published=is_complete(self.folder, self.identity))
        self.reporter.info(f"failed answers to generate again: {failed:,}")

    def _answer(self, journal: Journal) -> RunResult:
        sealed = self._store.sealed()
        self._delete_sealed(sealed, journal)
        resumed = self._count_saved(sealed, journal)
        began = time.monotonic()
        facts: Mapping[str, Any] = find_engine(self.setup.job.model.engine).info.facts()
        loaded_at = worked_at = began
        if len(sealed) < self._part_count:
            self._check_disk_space(self._output_rows - resumed.rows)
            engine = self.passes.engine.get()
            loaded_at = time.monotonic()
            sealed |= self._generate(engine, journal, sealed, resumed.rows)
            worked_at = time.monotonic()
            facts = {**facts, **engine.facts()}
            journal.flush()
        done = len(sealed) == self._part_count
        result = RunResult(
            outcome="done" if done else "stopped",
            folder=self.folder,
            run_id=self.identity.run_id,
            counts=self._count_saved(sealed, journal),
            expected_rows=self._output_rows,
            resumed_rows=resumed.rows,
            seconds=worked_at - loaded_at,
            load_seconds=loaded_at - began,
            limits=self.setup.job.run,
            engine=facts,
            why_stopped="" if done else self.stop.reason(),
        )
        if not done:
            return result
        if self.earlier:
            paths = [part.path for part in sealed.values()]
            prefix = self.setup.job.output.prefix
            reused = self.earlier.count_reused(paths, self.identity.run_id, prefix)
            result = replace(result, incremental=reused)
        publication = Publication(self.folder, self.lock, self.setup, self.identity)
        try:
            return publication.publish(sealed, result, self.passes)
        except StoppedError:
            return replace(result, outcome="stopped", why_stopped=self.stop.reason())

    def _delete_sealed(self, sealed: Mapping[int, SealedPart], journal: Journal) -> None:
        """Delete answers of sealed parts from the journal: the last process may have died between the two steps."""
        size = self.identity.part_rows
        for number in {r.index // size for r in journal.answers(0, self.identity.rows)}:
            if number in sealed:
                journal.delete(number * size, (number + 1) * size)

    def _check_disk_space(self, rows: int) -> None:
        share = rows / max(1, self._output_rows)
        size = sum(file.size for file in self.setup.survey.files)
        check_disk_space(
            self.folder.private,
            rows,
            new_tokens=self.setup.resolution.decoding.max_new_tokens,
            input_bytes=int(share * size * self.setup.samples),
            reporter=self.reporter,
        )

    def _count_saved(self, sealed: Mapping[int, SealedPart], journal: Journal) -> Counts:
        waiting = count_responses(journal.answers(0, self.identity.rows))
        return sum((part.counts for part in sealed.values()), waiting)

    @property
    def _part_count(self) -> int:
        return math.ceil(self.identity.rows / self.identity.part_rows)

    @property
    def _output_rows(self) -> int:
        return self.identity.rows * self.setup.samples

    def _generate(
        self, engine: Engine, journal: Journal, sealed: Mapping[int, SealedPart], resumed: int
    ) -> dict[int, SealedPart]:
        unchanged = ChangeGuard(self.setup.survey.files)

        def check() -> None:
            self.lock.check()
            unchanged.check()

        with self.reporter.rows(self.setup.job.name, self._output_rows, resumed) as progress:
            context = RunContext(
                request_builder=self.setup.request_builder,
                response_builder=self.setup.response_builder,
                engine=engine,
                journal=journal,
                store=self._store,
                layout=self.setup.checked_input.layout,
                run_id=self.identity.run_id,
                part_rows=self.identity.part_rows,
                progress=progress,
                should_stop=self.stop,
                check_still_valid=check,
                reuse=self.earlier.responses if self.earlier else lambda _: (),
            )
            if deaths := journal.deaths():
                died = f"the process died with {len(deaths):,} rows in flight"
                self.reporter.info(f"{died}: they are answered first")
                cleared = set(range(self._part_count)) - {r // context.part_rows for r in deaths}
                answer_suspects(context, self._chunks(skip=cleared), deaths)
            return generate_parts(context, self._chunks(skip=sealed.keys()))

    def _chunks(self, skip: Collection[int]) -> Iterator[Chunk]:
        source, survey = self.setup.checked_input.source, self.setup.survey
        return source.chunks(survey, rows=self.identity.part_rows, skip=skip)
