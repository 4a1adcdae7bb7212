"""`--shard I/N` and `--shard any`: make a share of the parts of a run, together with other processes, and publish nothing.

    lock, shared ─> join ─> set up ─> same run as the others? ─> my missing parts ─> LocalExecutor ─> sealed by link()

`run --merge`, or a plain `run`, publishes when all parts are sealed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batchgen.engines.engine_registry import open_engine
from batchgen.errors import StateError, UsageError
from batchgen.evaluation.model_queries.scoring_model import EngineOpener, LazyEngine
from batchgen.input.change_guard import ChangeGuard
from batchgen.job.spec import Job
from batchgen.jobfile.load import LoadedJob
from batchgen.output.published_run import PublishedRun
from batchgen.planning.host_processor import read_processor
from batchgen.progress import SILENT, Reporter
from batchgen.run.executors.executor import PartsTask
from batchgen.run.executors.this_process import LocalExecutor
from batchgen.run.job_for_run import loaded_job
from batchgen.run.preflight.disk_space import check_disk_space
from batchgen.run.preflight.versions import deciding_versions
from batchgen.run.publication import complete_result, is_complete
from batchgen.run.result import RunResult
from batchgen.run.reuse import EarlierRun, open_reuse
from batchgen.run.setup import Setup, run_identity, set_up
from batchgen.run.stop_signals import (
    Deadline,
    FailureLimit,
    FailureWatch,
    StopCondition,
    TokenBudget,
    job_deadlines,
)
from batchgen.state.identity import Identity, has_other_columns
from batchgen.state.journal import Journal, count_saved, delete_sealed, open_journal
from batchgen.state.lock import RunLock, hold_lock, wait_for_lock
from batchgen.state.parts import Counts
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.claims import EXPIRY_SECONDS, FolderClaims, PartClaims
from batchgen.state.shards.members import ShardMember, join
from batchgen.state.shards.shard import Shard
from batchgen.state.shards.shard_journal import import_answers, shard_journal
from batchgen.state.shards.shared_parts import SharedPartStore
from batchgen.storage.entries import exists
from batchgen.storage.failpoints import arm

_BEATS_BEFORE_EXPIRY = 8
_MOST_SECONDS_BETWEEN_LOOKS = 5.0


def run_shard(  # noqa: PLR0913  # every argument but the job and the shard has a default
    job: LoadedJob | Path | str,
    shard: Shard,
    *,
    incremental_from: Path | None = None,
    reporter: Reporter = SILENT,
    stop: Callable[[], bool] = lambda: False,
    deadlines: Sequence[Deadline] = (),
    opener: EngineOpener = open_engine,
    expiry: float = EXPIRY_SECONDS,
) -> RunResult:
    """Make the parts of a shard that are not sealed yet, and publish nothing.

    Args:
        job: a loaded job, or the path of a job file.
        shard: which parts.
        incremental_from: folder of a complete run whose answers are reused for unchanged rows.
        reporter: receives messages and progress.
        stop: called between steps; once true, the shard stops and can be started again.
        deadlines: when to stop, in addition to `run.max_runtime`.
        opener: opens the engine.
        expiry: seconds after which the claims of a worker count for nothing that shows no sign of life.

    Raises:
        BatchgenError: the shard cannot start or cannot finish; the exit code is the kind of failure.
    """
    arm()
    loaded = loaded_job(job)
    check_shareable(loaded.job, f"--shard {shard}")
    stopping = StopCondition(stop, job_deadlines(loaded.job.run, deadlines))
    folder = RunFolder(Path(loaded.job.output.path))
    folder.create(int(loaded.job.output.file_mode, 8))
    beats = expiry / _BEATS_BEFORE_EXPIRY
    with (
        hold_lock(folder.lock, shared=True) as lock,
        join(folder, shard, deciding_versions(), seconds_between_beats=beats) as member,
    ):
        reporter.begin("reading the input")
        setup = set_up(loaded, reporter, folder)
        with wait_for_lock(folder.shards / "setup.lock"):  # the first one creates run.json
            identity = run_identity(folder, setup, fresh=False)
        if is_complete(folder, identity):
            return complete_result(PublishedRun(folder), setup, "already complete")
        if has_other_columns(folder, identity):
            raise StateError(
                f"{folder.path}: the job has other columns of output than the parts that are sealed",
                hint="Use the same job in all shards, or run without --shard, which writes the sealed parts again.",
            )
        setup.try_user_metrics(reporter)
        setup.report_continuation(reporter)
        earlier = open_reuse(
            folder, incremental_from, setup=setup, run_id=identity.run_id, reporter=reporter
        )
        path = shard_journal(folder, identity.run_id, member.name)
        opened = open_journal(
            folder, run_id=identity.run_id, samples=setup.samples, reporter=reporter, path=path
        )
        engine = LazyEngine(partial(setup.scoring_model.open, opener, stopping))
        with opened as journal, closing(engine):
            executor = LocalExecutor(journal, engine, opener)
            work = _ShardWork(
                folder, lock, setup, identity, shard, member, journal, executor, reporter, stopping,
                earlier, expiry,
            )  # fmt: skip
            return work.run()


def check_shareable(job: Job, option: str) -> None:
    """Raise UsageError for keys of the job that several processes cannot hold to; `option` started them."""
    name = option.split()[0]
    if job.run.max_total_tokens is not None:
        raise UsageError(
            f"{option}: run.max_total_tokens is of the whole run, and shards do not count together",
            hint=f"Add --set run.max_total_tokens=null, or run without {name}.",
        )
    if job.output.upload_parts:
        raise UsageError(
            f"{option}: output.upload_parts keeps the parts in object storage; shards keep them in the output folder",
            hint=f"Add --set output.upload_parts=false, or run without {name}.",
        )


@dataclass(frozen=True, slots=True)
class _ShardWork:
    """One start of a shard, as a member of its run."""

    folder: RunFolder
    lock: RunLock
    setup: Setup
    identity: Identity
    shard: Shard
    member: ShardMember
    journal: Journal
    executor: LocalExecutor
    reporter: Reporter
    stop: StopCondition
    earlier: EarlierRun | None
    expiry: float

    def run(self) -> RunResult:
        own = self.shard.own(self.identity.parts)
        if exists(self.folder.journal):
            import_answers(self.journal, self.folder.journal, self.identity, own)
        delete_sealed(self.journal, self.identity, self._store.numbers())
        began = self._saved()
        limit = FailureLimit(self.setup.job.run, self.identity.rows * self.setup.samples)
        failures = FailureWatch(limit, 0 if self.shard.claims else began.failed)
        seconds = load_seconds = 0.0
        facts = dict(self.member.content["engine"])
        self._check_disk_space()
        check = self._check_still_valid()
        for numbers in self._rounds(failures):
            made = self.executor.make_parts(self._task(numbers, failures, check))
            seconds, load_seconds = seconds + made.seconds, load_seconds + made.load_seconds
            facts |= made.facts
            self.member.record(
                engine=facts,
                processor=read_processor().name,
                parts=int(self.member.content["parts"]) + len(made.sealed),
                seconds=round(float(self.member.content["seconds"]) + made.seconds, 3),
            )
        missing = self._missing()
        saved = self._saved()
        return RunResult(
            outcome="stopped" if missing else "sealed",
            folder=self.folder,
            run_id=self.identity.run_id,
            counts=saved,
            expected_rows=sum(map(self.identity.output_rows, own)),
            resumed_rows=began.rows,
            seconds=seconds,
            load_seconds=load_seconds,
            limits=self.setup.job.run,
            engine={**self.setup.engine_facts, **facts},
            why_stopped=failures.reason or self.stop.reason() if missing else "",
            stopped_by_failures=bool(missing and failures.reason),
            samples=self.setup.samples,
            price=self.setup.job.model.price,
            shard=str(self.shard),
        )

    @property
    def _store(self) -> SharedPartStore:
        return SharedPartStore(self.folder, compression=self.setup.job.output.compression)

    def _missing(self) -> list[int]:
        sealed = self._store.numbers()
        return [n for n in self.shard.own(self.identity.parts) if n not in sealed]

    def _saved(self) -> Counts:
        """What is saved of this shard's parts; of a worker that claims parts, of all."""
        own = self.shard.own(self.identity.parts)
        sealed = self._store.recorded(n for n in self._store.numbers() if n in own)
        return count_saved(self.journal, self.identity, sealed)

    def _rounds(self, failures: FailureWatch) -> Iterator[Iterator[int]]:
        """The numbers of the parts to make, for one call of the executor after another.

        While an iterator of numbers waits, the engine stands still: where all missing parts are claimed by others, a round ends,
        and the next one begins when one of them is free.
        """
        store = self._store
        if not self.shard.claims:
            if missing := self._missing():
                yield (number for number in missing if not store.is_sealed(number))
            return
        claims = PartClaims(
            FolderClaims(self.folder), self.member.name, time.monotonic, self.expiry
        )
        pause = min(_MOST_SECONDS_BETWEEN_LOOKS, self.expiry / _BEATS_BEFORE_EXPIRY)
        waiting = False
        while (missing := self._missing()) and not self.stop() and not failures.reason:
            first = claims.take(missing)
            if first is not None:
                yield self._claimed(claims, first)
                continue
            if not waiting:
                self.reporter.info(
                    f"waiting for {len(missing):,} parts that other workers make; those of a worker that ends are made here"
                )
                waiting = True
            time.sleep(pause)

    def _claimed(self, claims: PartClaims, first: int) -> Iterator[int]:
        number: int | None = first
        while number is not None:
            yield number
            number = claims.take(self._missing())

    def _check_still_valid(self) -> Callable[[], None]:
        unchanged = ChangeGuard(self.setup.survey.files)

        def check() -> None:
            self.lock.check()
            unchanged.check()

        return check

    def _task(
        self, numbers: Iterator[int], failures: FailureWatch, check: Callable[[], None]
    ) -> PartsTask:
        own = self.shard.own(self.identity.parts)
        return PartsTask(
            setup=self.setup,
            identity=self.identity,
            numbers=numbers,
            sealed=self._store.recorded(n for n in self._store.numbers() if n in own),
            expected_rows=sum(map(self.identity.output_rows, own)),
            store=self._store,
            reporter=self.reporter,
            failures=failures,
            budget=TokenBudget(None, 0),
            should_stop=self.stop,
            check_still_valid=check,
            earlier=self.earlier,
        )

    def _check_disk_space(self) -> None:
        missing = sum(map(self.identity.output_rows, self._missing()))
        if not missing:
            return
        share = missing / max(1, self.identity.rows * self.setup.samples)
        size = sum(file.size for file in self.setup.survey.files)
        check_disk_space(
            self.folder.private,
            missing,
            self.setup.resolution.decoding,
            input_bytes=int(share * size * self.setup.samples),
            reporter=self.reporter,
        )
