"""A matrix: every combination of the values of some keys is a run of its own, in a folder below the output folder.

    lock ─> check all combinations ─> matrix.json ─> run one after another ─> compare with the first ─> report

Each run is an ordinary one (`run.py`), with its own lock, parts and manifest: a start continues those that are not complete. A
run that fails does not stop the others. A model stays loaded as long as the next run needs the same (`kept_engine.py`).
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from batchgen.engines.engine_registry import open_engine
from batchgen.errors import BatchgenError
from batchgen.evaluation.comparing.compare_several import compare_several
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.jobfile.matrix.load_matrix import Combination, LoadedMatrix
from batchgen.output.published_run import read_manifest
from batchgen.progress import SILENT, Reporter
from batchgen.report.charts.chart_packages import check_chart_packages
from batchgen.report.write_report import write_comparison_page
from batchgen.run.matrix.earlier_matrix import check_earlier, earlier_run
from batchgen.run.matrix.kept_engine import KeptEngine
from batchgen.run.matrix.matrix_check import check_combinations
from batchgen.run.matrix.matrix_result import CombinationResult, MatrixResult
from batchgen.run.result import RunResult
from batchgen.run.run import Start, run
from batchgen.run.stop_signals import Deadline, StopCondition, job_deadlines
from batchgen.state.identity import read_identity
from batchgen.state.lock import hold_lock
from batchgen.state.matrix_record import (
    MatrixRecord,
    RecordedCombination,
    check_no_run,
    read_matrix_record,
)
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists
from batchgen.storage.failpoints import arm

Ended = Callable[[CombinationResult], None]
"""Called when a run has ended."""


def run_matrix(  # noqa: PLR0913  # as `run`: every argument but the first has a default
    matrix: LoadedMatrix,
    *,
    start: Start = "resume",
    incremental_from: Path | None = None,
    reporter: Reporter = SILENT,
    stop: Callable[[], bool] = lambda: False,
    deadlines: Sequence[Deadline] = (),
    opener: EngineOpener = open_engine,
    ended: Ended = lambda _: None,
) -> MatrixResult:
    """Run all combinations, or resume them, and compare their scores. The other arguments are those of `run`.

    With `incremental_from`, the folder of an earlier matrix, each run reuses the answers of the run with the same name.

    Raises:
        BatchgenError: no run can start. The error of a single run is in its result.
    """
    arm()
    output = matrix.first.job.output
    check_chart_packages(needed=output.report)
    check_earlier(incremental_from)
    check_combinations(matrix)
    folder = RunFolder(matrix.folder)
    check_no_run(folder.path)
    folder.create(int(output.file_mode, 8))
    with hold_lock(folder.lock):
        record = _record(matrix, folder, fresh=start == "fresh")
        record.write(folder)
        stopping = StopCondition(stop, job_deadlines(matrix.first.job.run, deadlines))
        with closing(KeptEngine(opener, reporter)) as engine:
            runner = _Runner(matrix, record, incremental_from, reporter, stopping, engine)
            runs = runner.run_all(start, ended)
        result = MatrixResult(folder.path, runs, why_stopped=stopping.reason())
        return result if stop() else _compared(result, output.report, reporter)


def _record(matrix: LoadedMatrix, folder: RunFolder, *, fresh: bool) -> MatrixRecord:
    """The record of this start. After a killed start with `fresh`, the next one also replaces the old runs."""
    known = read_matrix_record(folder)
    replaced = dict(known.replaced) if known is not None else {}
    if fresh:
        ids = {one.name: _run_id(folder.path / one.name) for one in matrix.combinations}
        replaced = {name: run_id for name, run_id in ids.items() if run_id is not None}
    combinations = [RecordedCombination(one.name, one.settings) for one in matrix.combinations]
    return MatrixRecord(matrix.first.job.name, matrix.first.date, combinations, replaced)


def _run_id(path: Path) -> str | None:
    """The id of the run in a folder; None if there is none."""
    folder = RunFolder(path)
    identity = read_identity(folder)
    if identity is not None:
        return identity.run_id
    return read_manifest(folder).run_id if exists(folder.manifest) else None


@dataclass(frozen=True, slots=True)
class _Runner:
    """One start of a matrix, under the lock of its folder."""

    matrix: LoadedMatrix
    record: MatrixRecord
    incremental_from: Path | None
    reporter: Reporter
    stop: StopCondition
    engine: KeptEngine

    def run_all(self, start: Start, ended: Ended) -> list[CombinationResult]:
        combinations, results = self.matrix.combinations, list[CombinationResult]()
        for number, one in enumerate(combinations, start=1):
            if self.stop():
                results.append(CombinationResult(one))
                continue
            self.reporter.info(f"run {number} of {len(combinations)}: {one.title}")
            result = self._run(one, start)
            self.engine.next_run(clean=result.is_published)
            results.append(result)
            ended(result)
        return results

    def _run(self, one: Combination, start: Start) -> CombinationResult:
        try:
            return CombinationResult(one, self._result(one, start))
        except BatchgenError as error:
            return CombinationResult(one, error=error)

    def _result(self, one: Combination, start: Start) -> RunResult:
        replaced = self.record.replaced.get(one.name)
        if start != "retry-errors":
            is_old = replaced is not None and _run_id(self.matrix.folder / one.name) == replaced
            start = "fresh" if is_old else "resume"
        return run(
            one.loaded,
            start=start,
            incremental_from=earlier_run(self.incremental_from, one.name, self.reporter),
            reporter=self.reporter,
            stop=self.stop.requested,
            deadlines=self.stop.deadlines,
            opener=self.engine,
        )


def _compared(result: MatrixResult, report: bool, reporter: Reporter) -> MatrixResult:
    """The result with the comparisons of the published runs that have scores, and with the page about them."""
    scored = [
        one.result.folder.path
        for one in result.runs
        if one.is_published and one.result is not None and one.result.metrics
    ]
    if len(scored) < 2:
        return result
    reporter.begin("comparing the runs")
    try:
        comparisons = compare_several(scored[0], scored[1:], pair_changed_prompts=True)
        result = replace(result, comparisons=comparisons)
        if report:
            page = RunFolder(result.folder).report
            write_comparison_page(comparisons, page)
            result = replace(result, report=page)
    except BatchgenError as error:  # the runs are complete
        return replace(result, problem=error)
    return result
