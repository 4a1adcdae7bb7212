"""A whole run: lock the folder, find the missing parts, generate them, publish.

    lock ─> set up ─> same job as before? ─> which parts are missing? ─> generate ─> publish ─> manifest

`work.py` is the path of a row.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from batchgen.engines.engine_registry import open_engine
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.evaluation.model_queries.scoring_pass import ScoringPasses, StoppedError
from batchgen.input.sources import Chunk
from batchgen.jobfile.load import LoadedJob
from batchgen.output.bucket_publication import open_publication
from batchgen.output.column_change import PartConverter
from batchgen.output.publish import finish_release
from batchgen.progress import SILENT, ConsoleReporter, Reporter
from batchgen.run.executors.executor import Executor, MadeParts, PartsTask
from batchgen.run.executors.run_passes import run_passes
from batchgen.run.executors.task_checks import check_space, validity_check
from batchgen.run.executors.this_process import LocalExecutor
from batchgen.run.job_for_run import loaded_job
from batchgen.run.preflight.compiling_early import compiling_early
from batchgen.run.publication import Publication, clean, is_complete, set_old_run_aside
from batchgen.run.result import RunResult
from batchgen.run.retry import RowReopener
from batchgen.run.reuse import LATEST, EarlierRun, check_complete, open_reuse
from batchgen.run.setup import Setup, run_identity, set_up
from batchgen.run.shards.merge_shards import with_machines
from batchgen.run.stop_signals import (
    Deadline,
    FailureLimit,
    FailureWatch,
    StopCondition,
    TokenBudget,
    job_deadlines,
)
from batchgen.run.timing.estimate_time import time_at_start
from batchgen.run.timing.speed_record import record_speed
from batchgen.state.bucket_state import PartsHome, open_parts_home
from batchgen.state.identity import Identity
from batchgen.state.journal import Journal, count_saved, delete_sealed, open_journal
from batchgen.state.lock import RunLock, hold_lock
from batchgen.state.matrix_record import check_no_matrix
from batchgen.state.parts import PartStore, SealedPart, check_size
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.shard_journal import take_over_journals
from batchgen.storage.failpoints import arm

Start = Literal["resume", "retry-errors", "fresh"]
"""What to do with a run that is already in the output folder: resume it, generate its failed rows again, or move it aside."""


def run(  # noqa: PLR0913  # public: every argument but the job has a default
    job: LoadedJob | Path | str,
    *,
    start: Start = "resume",
    incremental_from: Path | None = None,
    progress: bool = False,
    reporter: Reporter = SILENT,
    stop: Callable[[], bool] = lambda: False,
    deadlines: Sequence[Deadline] = (),
    opener: EngineOpener = open_engine,
    executor: Executor | None = None,
) -> RunResult:
    """Run a job, or resume it.

    Args:
        job: a loaded job, or the path of a job file.
        start: what to do with a run that is already in the output folder.
        incremental_from: folder of a complete run whose answers are reused for unchanged rows.
        progress: whether to print messages and progress on stderr.
        reporter: receives messages and progress instead.
        stop: called between steps; once true, the run stops and can be resumed later.
        deadlines: when to stop, in addition to `run.max_runtime`.
        opener: opens the engine; for engines that are not in the registry.
        executor: makes the parts; None for this process.

    Raises:
        BatchgenError: the run cannot start or cannot finish; the exit code is the kind of failure.
    """
    arm()
    if progress and reporter is SILENT:
        reporter = ConsoleReporter(sys.stderr)
    loaded = loaded_job(job)
    deadlines = job_deadlines(loaded.job.run, deadlines)
    folder = RunFolder(Path(loaded.job.output.path))
    check_no_matrix(folder.path)
    writable = start != "resume" or not folder.is_complete_and_read_only
    if writable:
        folder.create(int(loaded.job.output.file_mode, 8))
    held = hold_lock(folder.lock, writable=writable)
    with held as lock, compiling_early(loaded.job.model):
        folder.clear_scratch()
        if start != "fresh":
            finish_release(folder)
        reporter.begin("reading the input")
        setup = set_up(loaded, reporter, None if start == "fresh" else folder)
        if incremental_from is not None and incremental_from != LATEST:
            check_complete(RunFolder(incremental_from.absolute()))  # before a run begins
        if start == "fresh":  # only now: a job that cannot start leaves the old run as it is
            set_old_run_aside(folder, reporter)
        home = open_parts_home(folder, loaded.job.output, fresh=start == "fresh")
        identity = run_identity(folder, setup, fresh=start == "fresh", join=home.join)
        upload = _open_upload(home, setup, identity, reporter)
        stopping = StopCondition(stop, deadlines)
        passes = run_passes(
            home, identity.run_id, setup, opener, should_stop=stopping, reporter=reporter
        )
        if is_complete(folder, identity) and start != "retry-errors":
            return upload(
                Publication(folder, lock, setup, identity).of_complete_run(
                    passes, reporter, stopping
                )
            )
        _announce(setup, reporter)
        earlier = open_reuse(
            folder, incremental_from, setup=setup, run_id=identity.run_id, reporter=reporter
        )
        return upload(
            _Runner(
                home, lock, setup, identity, reporter, stopping, passes, earlier, opener, executor
            ).run(start)
        )


def _announce(setup: Setup, reporter: Reporter) -> None:
    """Report what is to be known before the first row; see `Setup.try_first_rows`."""
    setup.try_first_rows(reporter)
    for note in (setup.continuation_note, time_at_start(setup)):
        if note:
            reporter.info(note)


def _open_upload(
    home: PartsHome, setup: Setup, identity: Identity, reporter: Reporter
) -> Callable[[RunResult], RunResult]:
    """What uploads a published run, and adds its address to the result; see `output.upload`."""
    output, name = setup.job.output, setup.job.name
    if output.upload is None:
        return lambda result: result
    publication = open_publication(
        home.folder, output.upload, run_id=identity.run_id, job=name, reporter=reporter
    )

    def upload(result: RunResult) -> RunResult:
        if result.outcome in ("stopped", "withheld"):
            return result
        address = publication.publish(reporter)
        home.clear(identity.run_id)
        return replace(result, uploaded=address)

    return upload


@dataclass(frozen=True, slots=True)
class _Runner:
    """One start of a run, under the lock."""

    home: PartsHome
    lock: RunLock
    setup: Setup
    identity: Identity
    reporter: Reporter
    stop: StopCondition
    passes: ScoringPasses
    earlier: EarlierRun | None
    opener: EngineOpener
    executor: Executor | None

    def run(self, start: Start) -> RunResult:
        run_id, samples = self.identity.run_id, self.setup.samples
        opened = open_journal(self.folder, run_id=run_id, samples=samples, reporter=self.reporter)
        with opened as journal:
            take_over_journals(journal, self.folder, self.identity, range(self._part_count))
            if start == "retry-errors":
                self._reopen(journal)
            complete = is_complete(self.folder, self.identity)
            with closing(self.passes.engine):
                result = None if complete else self._answer(journal)
        if result is None:  # no row had failed
            return self._publication.of_complete_run(self.passes, self.reporter, self.stop)
        if result.outcome == "done":
            clean(self.folder)
            self.passes.cache.delete_unused()
        if self.executor is None:
            record_speed(self.setup, result)
        return result

    @property
    def folder(self) -> RunFolder:
        return self.home.folder

    @property
    def _store(self) -> PartStore:
        return self.home.store(self.identity.run_id)

    @property
    def _publication(self) -> Publication:
        return Publication(self.folder, self.lock, self.setup, self.identity)

    def _executor(self, journal: Journal) -> Executor:
        return self.executor or LocalExecutor(journal, self.passes.engine, self.opener)

    def _reopen(self, journal: Journal) -> None:
        reopener = RowReopener(self.folder, self._store, journal, self.setup, self.identity)
        failed = reopener.reopen_failed_rows(published=is_complete(self.folder, self.identity))
        self.reporter.info(f"failed answers to generate again: {failed:,}")

    def _answer(self, journal: Journal) -> RunResult:
        sealed = self._store.sealed()
        for part in sealed.values():
            check_size(part.path, part.counts.rows, self.identity.output_rows(part.number))
        delete_sealed(journal, self.identity, sealed)
        has_columns = self._change_columns(sealed)
        resumed = count_saved(journal, self.identity, sealed)
        limit = FailureLimit(self.setup.job.run, self._output_rows)
        failures = FailureWatch(limit, resumed.failed)
        spent = resumed.input_tokens + resumed.output_tokens
        budget = TokenBudget(self.setup.job.run.max_total_tokens, spent)
        missing = [number for number in range(self._part_count) if number not in sealed]
        made = MadeParts({}, resumed.rows)
        if has_columns and missing and not failures.reason:
            rows = self._output_rows - resumed.rows
            check_space(self.folder, self.setup, rows, self.reporter)
            task = PartsTask(
                setup=self.setup,
                identity=self.identity,
                numbers=missing,
                sealed=sealed,
                expected_rows=self._output_rows,
                store=self._store,
                reporter=self.reporter,
                failures=failures,
                budget=budget,
                should_stop=self.stop,
                check_still_valid=validity_check(self.lock, self.setup),
                earlier=self.earlier,
            )
            made = self._executor(journal).make_parts(task)
            sealed |= made.sealed
        made = with_machines(self.home, self.identity.run_id, made)
        publishes = self.executor is None or self.executor.publishes
        done = has_columns and publishes and len(sealed) == self._part_count
        why = failures.reason or budget.reason or self.stop.reason() or made.why
        result = RunResult(
            outcome="done" if done else "stopped",
            folder=self.folder,
            run_id=self.identity.run_id,
            counts=count_saved(journal, self.identity, sealed),
            expected_rows=self._output_rows,
            resumed_rows=made.saved_rows,
            seconds=made.seconds,
            load_seconds=made.load_seconds,
            limits=self.setup.job.run,
            engine={**self.setup.engine_facts, **made.facts},
            why_stopped="" if done else why,
            stopped_by_failures=not done and bool(failures.reason),
            samples=self.setup.samples,
            price=self.setup.job.model.price,
        )
        return self._publish(sealed, result) if done else result

    def _change_columns(self, sealed: dict[int, SealedPart]) -> bool:
        """Give the sealed parts the columns of the job, if they have others; False if the run is stopped first."""
        change = self.setup.column_change
        converter = PartConverter(self.folder, self.identity, self._store, change)
        if not converter.is_needed:
            return True
        if sealed:
            why = converter.describe()
            self.reporter.info(f"writing saved parts again, without generating: {why}")
        chunks = self._chunks(skip=set(range(self._part_count)) - sealed.keys())
        check = validity_check(self.lock, self.setup)
        return converter.convert(sealed, chunks, check=check, should_stop=self.stop)

    def _publish(self, sealed: Mapping[int, SealedPart], result: RunResult) -> RunResult:
        if self.earlier:
            paths = [part.path for part in sealed.values()]
            prefix = self.setup.job.output.prefix
            reused = self.earlier.count_reused(paths, self.identity.run_id, prefix)
            result = replace(result, incremental=reused)
        self.reporter.begin("scoring and publishing the answers")
        try:
            return self._publication.publish(sealed, result, self.passes)
        except StoppedError:
            return replace(result, outcome="stopped", why_stopped=self.stop.reason())

    @property
    def _part_count(self) -> int:
        return self.identity.parts

    @property
    def _output_rows(self) -> int:
        return self.identity.rows * self.setup.samples

    def _chunks(self, skip: Collection[int]) -> Iterator[Chunk]:
        return self.setup.chunks(rows=self.identity.part_rows, skip=skip)
