"""The answers of a queue as the page shows them: prompt, one answer or two, reference, scores. Long texts are cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.arrow.values import key_texts
from batchgen.evaluation.comparing.scored_run import ScoredRun
from batchgen.feedback.vote import response_sha
from batchgen.output.choice_column import CHOICE_PROBABILITIES
from batchgen.output.parsed_column import PARSED
from batchgen.output.schema import ANSWER_COLUMNS
from batchgen.output.score_tables import SCORE_PREFIX
from batchgen.report.rows.masked_texts import TextMask
from batchgen.report.rows.row_choice import ShownAnswer
from batchgen.report.rows.row_records import cut_texts, read_records
from batchgen.review.queue.review_queue import QueuedAnswer
from batchgen.review.queue.reviewed_run import ReviewedRun

MAX_ANSWER = 200_000
"""Characters of an answer. One that is cut cannot be edited."""
MAX_TEXT = 20_000
"""Characters of any other text."""
_MAX_COLUMNS = 30


@dataclass(frozen=True, slots=True)
class ReviewedAnswer:
    """An answer under review: what a vote names, and what the page shows."""

    run_id: str
    sample: int
    response_sha: str
    shown: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """An answer, or two to the same prompt.

    Attributes:
        shown: what the page shows of the prompt: `prompt`, `earlier`, `columns`, `reference`, `reasons`.
        other: the answer of the other run, if there is one.
    """

    id: str
    shown: Mapping[str, Any]
    answer: ReviewedAnswer
    other: ReviewedAnswer | None = None


def read_items(
    run: ReviewedRun,
    queue: Sequence[QueuedAnswer],
    other: ReviewedRun | None = None,
    mask: TextMask | None = None,
) -> list[ReviewItem]:
    """Read the answers of a queue; with a `mask`, personal data in their texts is masked."""
    records = _records(run.scored, [(one.row, one) for one in queue])
    without = [n for n, record in enumerate(records) if not record["prompt"]]
    read = _columns(run.scored, [queue[n].row for n in without]) if without else []
    columns = dict(zip(without, read, strict=True))
    own = [_answer(run, record, mask) for record in records]
    others: list[ReviewedAnswer | None] = [None] * len(own)
    if other is not None:
        rows = [(one.other_row, one) for one in queue if one.other_row is not None]
        others = [_answer(other, record, mask) for record in _records(other.scored, rows)]
    return [
        ReviewItem(one.id, _shown(record, columns.get(n, {}), one.reasons, mask), answer, compared)
        for n, (one, record, answer, compared) in enumerate(
            zip(queue, records, own, others, strict=True)
        )
    ]


def _records(run: ScoredRun, rows: Sequence[tuple[int, QueuedAnswer]]) -> list[dict[str, Any]]:
    return read_records(run, [ShownAnswer(row, one.id, one.sample, (), ()) for row, one in rows])


def _answer(run: ReviewedRun, record: Mapping[str, Any], mask: TextMask | None) -> ReviewedAnswer:
    texts = {"text": record["answer"], "reasoning": record.get("reasoning")}
    texts["scores"] = record["scores"]
    texts = mask.texts(texts) if mask else texts
    shown = {
        "text": cut_texts(texts["text"], MAX_ANSWER),
        "reasoning": cut_texts(texts["reasoning"], MAX_TEXT),
        "scores": cut_texts(texts["scores"], MAX_TEXT),
        "cut": record.get("finish") == "length",
    }
    return ReviewedAnswer(run.run_id, record["sample"], response_sha(record["answer"]), shown)


def _shown(
    record: Mapping[str, Any],
    columns: Mapping[str, Any],
    reasons: Sequence[str],
    mask: TextMask | None,
) -> dict[str, Any]:
    texts = {"prompt": record["prompt"], "reference": record["reference"], "columns": columns}
    texts = mask.texts(texts) if mask else texts
    shown = {name: record[name] for name in ("id", "sample", "earlier")}
    return dict(cut_texts({**shown, **texts, "reasons": reasons}, MAX_TEXT))


def _columns(run: ScoredRun, rows: Sequence[int]) -> list[dict[str, Any]]:
    """The columns of the input: what the page shows where the prompt is not stored."""
    prefix, names = run.prefix, run.responses.schema.names
    added = {prefix + name for name in (*ANSWER_COLUMNS, PARSED, CHOICE_PROBABILITIES, "logprobs")}
    scores = (prefix + SCORE_PREFIX, SCORE_PREFIX)
    own = [name for name in names if name not in added and not name.startswith(scores)]
    table = run.responses.take(rows, own[:_MAX_COLUMNS])
    columns = [key_texts(column).to_pylist() for column in table.columns]
    return [
        {
            name: column[n]
            for name, column in zip(table.column_names, columns, strict=True)
            if column[n] is not None
        }
        for n in range(len(rows))
    ]
