"""Examples from the scores of a run: answers that pass and fail a metric, and verdicts of a pairwise judge in both orders."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from batchgen.errors import BatchgenError, UsageError
from batchgen.feedback.training.examples import (
    AnswerRef,
    LabelledAnswer,
    Origin,
    Preference,
    Side,
)
from batchgen.job.judge import Judge
from batchgen.jobfile.load import load_stored_job
from batchgen.output.published_run import PublishedRun, read_manifest
from batchgen.output.score_tables import SCORE_PREFIX, read_metrics
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder

Scored = Sequence[tuple[AnswerRef, float]]


def preferences_of_metric(
    runs: Sequence[PublishedRun], name: str, margin: float
) -> Iterator[Preference]:
    """Two answers to one prompt whose scores differ by at least `margin`: for a check, one passes and one fails."""
    by_prompt: dict[str, list[tuple[AnswerRef, float]]] = defaultdict(list)
    for run in runs:
        for ref, score in _scores(run, name):
            by_prompt[ref.id].append((ref, score))
    for answers in by_prompt.values():
        for (one, first), (other, second) in itertools.combinations(answers, 2):
            apart = first - second
            if abs(apart) < max(margin, 1e-9):
                continue
            chosen, rejected = (one, other) if apart > 0 else (other, one)
            origin = Origin(f"metric:{name}", difference=abs(apart))
            yield Preference(Side(chosen), Side(rejected), origin)


def labels_of_metric(runs: Sequence[PublishedRun], name: str) -> Iterator[LabelledAnswer]:
    """Answers with the best score are good, those with the worst are bad; others are left out."""
    for run in runs:
        row = _metric(run, name)
        least, most = (0.0, 1.0) if row.unit == "fraction" else (row.least, row.most)
        if least is None or most is None:
            raise UsageError(
                f"--source metric:{name}: {name} has no range, so that no answer passes or fails",
                hint="Use a metric with a fraction or a scale, such as exact or a judge.",
            )
        ends = (least, most) if row.higher_is_better is not False else (-most, -least)
        for ref, score in _scores(run, name):
            if score in ends:
                yield LabelledAnswer(Side(ref), score == ends[1], Origin(f"metric:{name}"))


def preferences_of_judge(runs: Sequence[PublishedRun], name: str) -> Iterator[Preference]:
    """The answer that a pairwise judge prefers in both orders."""
    run, judge = runs[0], _pairwise_judge(runs[0], name)
    other = _baseline(judge, runs, name)
    for ref, score in _scores(run, name):
        against = AnswerRef(other.manifest.run_id, ref.id, 0)
        if score in (0.0, 1.0):
            chosen, rejected = (ref, against) if score == 1.0 else (against, ref)
            yield Preference(Side(chosen), Side(rejected), Origin(f"judge:{name}"))


def labels_of_judge(runs: Sequence[PublishedRun], name: str) -> Iterator[LabelledAnswer]:
    """The preferred answer is good, the other one bad."""
    for preference in preferences_of_judge(runs, name):
        yield LabelledAnswer(preference.chosen, True, preference.origin)
        yield LabelledAnswer(preference.rejected, False, preference.origin)


def _pairwise_judge(run: PublishedRun, name: str) -> Judge:
    judges = load_stored_job(run.folder.job).job.evaluate.judges
    found = next((judge for judge in judges if judge.name == name), None)
    if found is None or found.mode != "pairwise" or found.baseline is None:
        names = [judge.name for judge in judges if judge.mode == "pairwise" and judge.baseline]
        raise UsageError(
            f"--source judge:{name}: the job of {run.folder.path} has no judge {name!r} that compares answers with those of a run",
            hint=f"There are: {', '.join(names) or 'none'}. For a rubric judge, write metric:{name} and --margin.",
        )
    return found


def _baseline(judge: Judge, runs: Sequence[PublishedRun], name: str) -> PublishedRun:
    """The run of the export that the judge compared with."""
    path = Path(judge.baseline or "")
    try:
        run_id = read_manifest(RunFolder(path.absolute())).run_id
    except BatchgenError as error:
        raise UsageError(f"--source judge:{name}: {error.message}", hint=error.hint) from error
    for run in runs[1:]:
        if run.manifest.run_id == run_id:
            return run
    raise UsageError(
        f"--source judge:{name} compared with {path}, which is not among the runs to export",
        hint=f"Name it as the second run: batchgen feedback export {runs[0].folder.path} {path}",
    )


def _scores(run: PublishedRun, name: str) -> Iterator[tuple[AnswerRef, float]]:
    """The scores of a run, greater ones better."""
    row = _metric(run, name)
    column = SCORE_PREFIX + name
    if run.manifest.prefix + column not in run.responses.schema.names:
        raise UsageError(
            f"--source {name}: it has no score for each answer",
            hint="Use a metric of single answers.",
        )
    sign = -1.0 if row.higher_is_better is False else 1.0
    frame = run.index(["id", "sample", column])
    for row_id, sample, score in frame.select("id", "sample", column).iter_rows():
        if score is not None:
            yield AnswerRef(run.manifest.run_id, row_id, sample), sign * score


def _metric(run: PublishedRun, name: str) -> MetricRow:
    rows = [row for row in read_metrics(run.folder.metrics) if row.slice == "all"]
    for row in rows:
        if row.metric == name and row.higher_is_better is not None:
            return row
    names = [row.metric for row in rows if row.higher_is_better is not None]
    raise UsageError(
        f"--source metric:{name}: {run.folder.path} has no metric {name!r} with a better direction",
        hint=f"There are: {', '.join(names) or 'none'}.",
    )
