"""`batchgen feedback stats`: counts of the votes of a run, agreement by slice, and win rates."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa

from batchgen.arrow.nested_column import column_paths
from batchgen.arrow.row_filter import parse_where
from batchgen.errors import BatchgenError, UsageError
from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.agreement.measure_agreement import (
    Agreement,
    MetricValues,
    Scope,
    agreement_among_people,
    agreement_of_two,
    agreement_with_metric,
)
from batchgen.evaluation.agreement.questions import Question, preferences, questions_of
from batchgen.evaluation.agreement.win_rate import WinRate, win_rates
from batchgen.evaluation.slices import Slicer, slice_column
from batchgen.feedback.run_votes import Key, RunVotes, key_of, load_run_votes
from batchgen.job.evaluate import Bins, Evaluate
from batchgen.jobfile.load import load_stored_job
from batchgen.metrics.statistics.intervals import FRACTION, Confidence, ValueRange
from batchgen.output.published_run import PublishedRun, read_manifest
from batchgen.output.score_tables import SCORE_PREFIX, read_metrics
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists

HUMAN = "human"
"""The type of metric that is computed from the same votes: no agreement with it is measured."""


@dataclass(frozen=True, slots=True)
class VoteStatistics:
    """What the votes of a run show."""

    votes: RunVotes
    agreements: Sequence[Agreement]
    win_rates: Sequence[WinRate]


def vote_statistics(
    run: PublishedRun,
    *,
    by: Sequence[str] = (),
    where: str = "",
    confidence: Confidence | None = None,
) -> VoteStatistics:
    """Measure agreement on each question, over all answers and by slice: those of the job, and by the columns `by`.

    `where` is an SQL condition on the columns: only votes about these answers.

    Raises:
        UsageError: a column does not exist, the condition is invalid, or no answer with votes fulfils it.
        StateError: a file of the run or of its votes is damaged.
    """
    votes = _chosen(run, load_run_votes(run), where)
    section = load_stored_job(run.folder.job).job.evaluate
    ci = section.ci
    confidence = confidence or Confidence(ci.level, ci.bootstrap, ci.seed)
    cuts: list[str | Bins] = [*section.slices, *(one for one in by if one not in section.slices)]
    table = _rows(run, votes, cuts)
    keys = list(votes.rows)
    metrics = _metrics(run, section, table, keys)
    scopes = [Scope(OVERALL, None, confidence)]
    for name, mask in Slicer(cuts).masks(table).items() if keys else ():
        chosen = {key for key, own in zip(keys, mask.tolist(), strict=True) if own}
        scopes.append(Scope(name, chosen, confidence))
    agreements = [
        one
        for question in questions_of(votes)
        for scope in scopes
        for one in _agreements(question, metrics, scope)
    ]
    for question, judge in _pair_questions(votes, section):
        of_judge = [metric for metric in metrics if metric.name == judge]
        agreements += [a for scope in scopes for a in _with_metrics(question, of_judge, scope)]
    pairs = votes.of_kind("pair")
    rates = [
        rate
        for scope in scopes
        for rate in win_rates(
            [vote for vote in pairs if scope.keys is None or key_of(vote) in scope.keys],
            confidence,
            scope.slice,
        )
    ]
    return VoteStatistics(votes, agreements, rates)


def _chosen(run: PublishedRun, votes: RunVotes, where: str) -> RunVotes:
    """The votes about answers that fulfil a condition."""
    condition = parse_where(where, run.responses.schema)
    if condition is None or not votes.rows:
        return votes
    table = run.responses.take(list(votes.rows.values()), sorted(condition.columns))
    fulfilled = condition.mask(table).tolist()
    rows = {key: row for (key, row), own in zip(votes.rows.items(), fulfilled, strict=True) if own}
    if not rows:
        raise UsageError(
            "no answer with votes fulfils --where", hint="Leave --where out, or change it."
        )
    return replace(votes, votes=[vote for vote in votes.votes if key_of(vote) in rows], rows=rows)


def _agreements(
    question: Question, metrics: Sequence[MetricValues], scope: Scope
) -> Iterator[Agreement]:
    among = agreement_among_people(question, scope)
    if among.units or scope.keys is None:
        yield among
    yield from agreement_of_two(question, scope)
    yield from _with_metrics(question, metrics, scope)


def _with_metrics(
    question: Question, metrics: Sequence[MetricValues], scope: Scope
) -> Iterator[Agreement]:
    found = (agreement_with_metric(question, metric, scope) for metric in metrics)
    yield from (one for one in found if one is not None)


def _rows(run: PublishedRun, votes: RunVotes, cuts: Sequence[str | Bins]) -> pa.Table:
    """The rows with votes, in the order of `votes.rows`."""
    schema = run.responses.schema
    known = column_paths(schema)
    for column in map(slice_column, cuts):
        if column not in known:
            raise UsageError(
                f"--by {column}: the run has no such column",
                hint=f"Use one of: {', '.join(schema.names)}.",
            )
    prefix = run.manifest.prefix + SCORE_PREFIX
    columns = set(map(slice_column, cuts))
    wanted = columns | {column.split(".")[0] for column in columns}
    names = [n for n in schema.names if n.startswith(prefix) or n in wanted]
    return run.responses.take(list(votes.rows.values()), names)


def _metrics(
    run: PublishedRun, section: Evaluate, table: pa.Table, keys: Sequence[Key]
) -> list[MetricValues]:
    if not exists(run.folder.metrics):
        return []
    own = {one.name or one.type for one in section.metrics if one.type == HUMAN}
    rows = {row.metric: row for row in read_metrics(run.folder.metrics) if row.slice == OVERALL}
    prefix = run.manifest.prefix + SCORE_PREFIX
    found = []
    for name, row in rows.items():
        column = prefix + name
        if column not in table.column_names or any(_is_of(name, human) for human in own):
            continue
        values = zip(keys, table.column(column).to_pylist(), strict=True)
        scored = {key: float(value) for key, value in values if value is not None}
        found.append(MetricValues(name, range_of(row), row.higher_is_better, scored))
    return found


def _is_of(name: str, human: str) -> bool:
    return name in (human, f"{human}_raters")


def range_of(row: MetricRow) -> ValueRange | None:
    """The range of a metric's values; None where they have no limits."""
    if row.unit == "fraction":
        return FRACTION
    if row.least is None or row.most is None:
        return None
    return ValueRange(row.least, row.most)


def _pair_questions(votes: RunVotes, section: Evaluate) -> list[tuple[Question, str]]:
    """For each pairwise judge against another run: the choices of people between the same two runs, and its name."""
    by_other: dict[str, list[str]] = defaultdict(list)
    for judge in section.judges:
        if judge.mode == "pairwise" and judge.baseline is not None:
            with suppress(
                BatchgenError
            ):  # a baseline that was deleted: there is no agreement with the judge
                manifest = read_manifest(RunFolder(Path(judge.baseline).absolute()))
                by_other[manifest.run_id].append(judge.name)
    found = []
    for other, judges in by_other.items():
        own = [vote for vote in votes.of_kind("pair") if vote.other_run_id == other]
        question = Question(f"pair: {other}", "nominal", FRACTION, preferences(own), other)
        found += [(question, name) for name in judges if own]
    return found


def as_json(found: VoteStatistics) -> Mapping[str, object]:
    """The result for `--json`."""
    votes = found.votes
    problems = votes.problems
    return {
        "run_id": votes.run.manifest.run_id,
        "saved": votes.saved,
        "votes": len(votes.votes),
        "by_kind": votes.counts,
        "by_reviewer": votes.reviewers,
        "answers": len({(vote.id, vote.sample) for vote in votes.votes}),
        "left_out": {
            "other_run": len(problems.other_run),
            "no_row": len(problems.no_row),
            "changed": len(problems.changed),
        },
        "agreement": [asdict(one) for one in found.agreements],
        "win_rates": [asdict(one) for one in found.win_rates],
        "notes": list(votes.notes),
    }
