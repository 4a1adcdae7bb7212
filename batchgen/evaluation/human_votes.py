"""The votes of people as columns that the metric `human` reads, as likelihoods are columns for metrics with a model."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from batchgen.evaluation.answers import Tables
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.feedback.vote import Vote, response_sha, standing_votes
from batchgen.feedback.votes_file import read_votes
from batchgen.metrics.human import HumanOptions, votes_column
from batchgen.state.run_folder import RunFolder

_WINS = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
_VALUES = pa.list_(pa.float64())

Key = tuple[str, int]


def add_vote_columns(
    tables: Tables, evaluation: Evaluation, folder: RunFolder, *, run_id: str, prefix: str
) -> Tables:
    """The same tables, with a column of votes for each metric `human` of the job.

    A vote about a text that has changed, or about another run, is not counted.

    Raises:
        StateError: a file of votes is damaged.
    """
    options = {
        one.name: one.options
        for one in evaluation.measures
        if isinstance(one.options, HumanOptions) and one.metric.spec.unit != "count"
    }
    if not options:
        return tables
    votes = [vote for vote in standing_votes(read_votes(folder).votes) if vote.run_id == run_id]
    by_metric = {name: _by_answer(votes, one) for name, one in options.items()}

    def with_votes() -> Iterator[pa.Table]:
        for table in tables():
            for name, by_answer in by_metric.items():
                cells = _cells(table, by_answer, prefix)
                table = table.append_column(votes_column(name), pa.array(cells, _VALUES))
            yield table

    return with_votes


def _by_answer(votes: Sequence[Vote], options: HumanOptions) -> Mapping[Key, list[Vote]]:
    found: dict[Key, list[Vote]] = defaultdict(list)
    for vote in votes:
        if vote.kind == options.votes and options.rubric in (None, vote.rubric):
            found[vote.id, vote.sample].append(_with_value(vote, options))
    return found


def _with_value(vote: Vote, options: HumanOptions) -> Vote:
    return vote if options.label is None else vote.model_copy(update={"value": _has(vote, options)})


def _has(vote: Vote, options: HumanOptions) -> bool:
    return options.label in (vote.labels or ())


def _cells(
    table: pa.Table, by_answer: Mapping[Key, list[Vote]], prefix: str
) -> list[list[float] | None]:
    ids, samples = (table.column(prefix + name).to_pylist() for name in ("id", "sample"))
    responses = table.column(f"{prefix}response")
    cells: list[list[float] | None] = []
    for row, key in enumerate(zip(ids, samples, strict=True)):
        votes = by_answer.get(key)
        if votes is None:
            cells.append(None)
            continue
        sha = response_sha(responses[row].as_py())
        cells.append(_of_reviewers([vote for vote in votes if vote.response_sha == sha]))
    return cells


def _of_reviewers(votes: Sequence[Vote]) -> list[float]:
    """One number for each reviewer: the mean of their votes by several rubrics, or against several runs."""
    by_reviewer: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        value = _WINS[vote.choice] if vote.choice is not None else float(vote.value or 0)
        by_reviewer[vote.reviewer].append(value)
    return [sum(values) / len(values) for _, values in sorted(by_reviewer.items())]
