"""`--shard I/N` and `--shard any`: make a share of the parts of a run, together with other processes, and publish nothing.

    lock, shared ─> join ─> set up ─> same run as the others? ─> my missing parts ─> LocalExecutor ─> sealed by link()

`run --merge`, or a plain `run`, publishes when all parts are sealed.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.engines.engine_registry import open_engine
from batchgen.errors import StateError
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.evaluation.model_queries.scoring_pass import ScoringPasses
from batchgen.jobfile.load import LoadedJob
from batchgen.output.published_run import PublishedRun
from batchgen.planning.host_processor import read_processor
from batchgen.progress import SILENT, Reporter
from batchgen.run.executors.executor import MadeParts, PartsTask
from batchgen.run.executors.run_passes import run_passes
from batchgen.run.executors.task_checks import check_space, validity_check
from batchgen.run.executors.this_process import LocalExecutor
from batchgen.run.job_for_run import loaded_job
from batchgen.run.preflight.versions import deciding_versions
from batchgen.run.publication import complete_result, is_complete
from batchgen.run.result import RunResult
from batchgen.run.reuse import EarlierRun, open_reuse
from batchgen.run.setup import Setup, run_identity, set_up
from batchgen.run.shards.claim_turns import BEATS_BEFORE_EXPIRY, claimed_parts
from batchgen.run.shards.part_scoring import PartScoring
from batchgen.run.shards.shard_place import ShardPlace, meet
from batchgen.run.stop_signals import (
    Deadline,
    FailureLimit,
    FailureWatch,
    StopCondition,
    TokenBudget,
    job_deadlines,
)
from batchgen.state.bucket_state import open_parts_home
from batchgen.state.identity import Identity, has_other_columns
from batchgen.state.journal import Journal, count_saved, delete_sealed, open_journal
from batchgen.state.lock import RunLock, hold_lock, wait_for_lock
from batchgen.state.matrix_record import check_no_matrix
from batchgen.state.parts import Counts, SealedPart
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.claims import EXPIRY_SECONDS, PartClaims
from batchgen.state.shards.members import ShardMember, join
from batchgen.state.shards.shard import Shard
from batchgen.state.shards.shard_journal import import_answers, shard_journal
from batchgen.storage.entries import exists
from batchgen.storage.failpoints import arm


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
    stopping = StopCondition(stop, job_deadlines(loaded.job.run, deadlines))
    folder = RunFolder(Path(loaded.job.output.path))
    check_no_matrix(folder.path)
    folder.create(int(loaded.job.output.file_mode, 8))
    beats = expiry / BEATS_BEFORE_EXPIRY
    with (
        hold_lock(folder.lock, shared=True) as lock,
        join(folder, shard, deciding_versions(), seconds_between_beats=beats) as member,
    ):
        reporter.begin("reading the input")
        setup = set_up(loaded, reporter, folder, share_survey=True)
        with wait_for_lock(folder.shards / "setup.lock"):  # the first one creates run.json
            home = open_parts_home(folder, loaded.job.output, fresh=False)
            identity = run_identity(folder, setup, fresh=False, join=home.join)
        if is_complete(folder, identity):
            return complete_result(PublishedRun(folder), setup, "already complete")
        if has_other_columns(folder, identity):
            raise StateError(
                f"{folder.path}: the job has other columns of output than the parts that are sealed",
                hint="Use the same job in all shards, or run without --shard, which writes the sealed parts again.",
            )
        setup.try_first_rows(reporter)
        if note := setup.continuation_note:
            reporter.info(note)
        earlier = open_reuse(
            folder, incremental_from, setup=setup, run_id=identity.run_id, reporter=reporter
        )
        path = shard_journal(folder, identity.run_id, member.name)
        opened = open_journal(
            folder, run_id=identity.run_id, samples=setup.samples, reporter=reporter, path=path
        )
        passes = run_passes(
            home, identity.run_id, setup, opener, should_stop=stopping, reporter=reporter
        )
        with (
            meet(home, identity.run_id, member, beats) as place,
            opened as journal,
            closing(passes.engine),
        ):
            executor = LocalExecutor(journal, passes.engine, opener)
            work = _ShardWork(
                folder, lock, setup, identity, shard, member, place, journal, executor, reporter,
                stopping, passes, earlier, expiry,
            )  # fmt: skip
            return work.run()


@dataclass(frozen=True, slots=True)
class _ShardWork:
    """One start of a shard, as a member of its run."""

    folder: RunFolder
    lock: RunLock
    setup: Setup
    identity: Identity
    shard: Shard
    member: ShardMember
    place: ShardPlace
    journal: Journal
    executor: LocalExecutor
    reporter: Reporter
    stop: StopCondition
    passes: ScoringPasses
    earlier: EarlierRun | None
    expiry: float

    def run(self) -> RunResult:
        own = self.shard.own(self.identity.parts)
        if exists(self.folder.journal):
            import_answers(self.journal, self.folder.journal, self.identity, own)
        delete_sealed(self.journal, self.identity, self.place.store.numbers())
        began = self._saved({})
        limit = FailureLimit(self.setup.job.run, self._output_rows)
        failures = FailureWatch(limit, 0 if self.shard.claims else began.failed)
        budget = self._budget(began)
        seconds = load_seconds = 0.0
        facts = dict(self.member.content["engine"])
        missing = sum(map(self.identity.output_rows, self._missing()))
        if missing:
            check_space(self.folder, self.setup, missing, self.reporter)
        check = validity_check(self.lock, self.setup)
        made: dict[int, SealedPart] = {}
        taken = set[int]()
        for numbers in self._rounds(failures, budget, taken):
            task = self._task(numbers, failures, budget, check)
            found = self.executor.make_parts(task)
            made |= found.sealed
            seconds, load_seconds = seconds + found.seconds, load_seconds + found.load_seconds
            facts |= found.facts
            self._record(found, facts)
        is_unfinished = bool(self._missing()) or not self._query_models(own)
        counted = taken if self.shard.claims else own
        return RunResult(
            outcome="stopped" if is_unfinished else "sealed",
            folder=self.folder,
            run_id=self.identity.run_id,
            counts=self._saved(made),
            expected_rows=sum(map(self.identity.output_rows, counted)),
            resumed_rows=began.rows,
            seconds=seconds,
            load_seconds=load_seconds,
            limits=self.setup.job.run,
            engine={**self.setup.engine_facts, **facts},
            why_stopped=failures.reason or budget.reason or self.stop.reason()
            if is_unfinished
            else "",
            stopped_by_failures=bool(is_unfinished and failures.reason),
            samples=self.setup.samples,
            price=self.setup.job.model.price,
            shard=str(self.shard),
        )

    def _query_models(self, own: range) -> bool:
        """Query the models of the evaluation about the parts of this shard; False if it is stopped first."""
        return PartScoring(
            self.setup, self.passes, self.place, own, self.shard.claims,
            self.expiry, self.reporter, self.stop,
        ).run()  # fmt: skip

    def _record(self, made: MadeParts, facts: Mapping[str, Any]) -> None:
        before = self.member.content
        self.member.record(
            engine=dict(facts),
            processor=read_processor().name,
            parts=int(before["parts"]) + len(made.sealed),
            seconds=round(float(before["seconds"]) + made.seconds, 3),
            load_seconds=round(float(before["load_seconds"]) + made.load_seconds, 3),
        )

    @property
    def _output_rows(self) -> int:
        return self.identity.rows * self.setup.samples

    def _budget(self, saved: Counts) -> TokenBudget:
        """The tokens of this shard: the part of `run.max_total_tokens` that its rows are of all; with claims, of what it claims."""
        whole = self.setup.job.run.max_total_tokens
        if whole is None:
            return TokenBudget(None, 0)
        own = () if self.shard.claims else self._counted_parts()
        spent = saved.input_tokens + saved.output_tokens
        return TokenBudget(sum(map(self._share, own)), spent, whole)

    def _counted_parts(self) -> list[int]:
        """The parts of this shard but for those that another machine made, whose tokens are not recorded here."""
        own, sealed = self.shard.own(self.identity.parts), self.place.store.numbers()
        known = self.place.store.recorded(number for number in own if number in sealed)
        return [number for number in own if number not in sealed or number in known]

    def _share(self, part: int) -> int:
        """The tokens of a part; those of all parts together are at most the limit of the run."""
        whole = self.setup.job.run.max_total_tokens or 0
        return whole * self.identity.output_rows(part) // self._output_rows

    def _missing(self) -> list[int]:
        sealed = self.place.store.numbers()
        return [n for n in self.shard.own(self.identity.parts) if n not in sealed]

    def _saved(self, made: Mapping[int, SealedPart]) -> Counts:
        """What is saved of this shard's parts; of a worker that claims parts, of those that it has `made` and its open ones."""
        if self.shard.claims:
            return count_saved(self.journal, self.identity, made)
        own = self.shard.own(self.identity.parts)
        sealed = self.place.store.recorded(n for n in self.place.store.numbers() if n in own)
        return count_saved(self.journal, self.identity, sealed)

    def _rounds(
        self, failures: FailureWatch, budget: TokenBudget, taken: set[int]
    ) -> Iterator[Iterator[int]]:
        """The numbers of the parts to make, for one call of the executor after another; those that are claimed are added to `taken`.

        While an iterator of numbers waits, the engine stands still: where all missing parts are claimed by others, a round ends,
        and the next one begins when one of them is free.
        """
        store = self.place.store
        if not self.shard.claims:
            if missing := self._missing():
                yield (number for number in missing if not store.is_sealed(number))
            return
        claims = PartClaims(
            self.place.claims,
            self.place.name,
            missing=self._missing,
            is_sealed=store.is_sealed,
            clock=time.monotonic,
            expiry=self.expiry,
        )

        def has_ended() -> bool:
            return bool(self.stop() or failures.reason or budget.reason)

        for first in claimed_parts(claims, has_ended, self.expiry, self.reporter):
            yield self._claimed(claims, first, budget, taken)

    def _claimed(
        self, claims: PartClaims, first: int, budget: TokenBudget, taken: set[int]
    ) -> Iterator[int]:
        number: int | None = first
        while number is not None:
            taken.add(number)
            if budget.limit is not None:
                budget.limit += self._share(number)
            yield number
            number = claims.take()

    def _task(
        self,
        numbers: Iterator[int],
        failures: FailureWatch,
        budget: TokenBudget,
        check: Callable[[], None],
    ) -> PartsTask:
        own = self.shard.own(self.identity.parts)
        return PartsTask(
            setup=self.setup,
            identity=self.identity,
            numbers=numbers,
            sealed={number for number in self.place.store.numbers() if number in own},
            expected_rows=sum(map(self.identity.output_rows, own)),
            store=self.place.store,
            reporter=self.reporter,
            failures=failures,
            budget=budget,
            should_stop=self.stop,
            check_still_valid=check,
            earlier=self.earlier,
        )
