"""Which answers a report shows: the worst by each ranked metric, flips, failed ones, and some drawn at random.

A page with every answer of a large run would be too large to open or to send.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from batchgen.evaluation.comparing.scored_run import KEY, SLICE, ScoredRun
from batchgen.report.rows.answer_survey import AnswerSurvey
from batchgen.report.rows.score_survey import AnswerKey, ScoreSurvey

MAX_WORST, MAX_RANDOM = 200, 100

Reason = Literal["flip", "worst", "failed", "random"]
"""Why an answer is shown."""


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """An answer that is shown. `row` is its number among all answers."""

    row: int
    id: str
    sample: int
    slices: Sequence[str]
    reasons: Sequence[Reason]


def choose_answers(
    run: ScoredRun, answers: AnswerSurvey, scores: ScoreSurvey, flips: Sequence[AnswerKey] = ()
) -> list[ShownAnswer]:
    """Choose the answers to show: flips, then the worst of the metrics in turn, failed ones, random ones."""
    by_key: dict[AnswerKey, list[Reason]] = {}
    for key in flips:
        by_key.setdefault(key, ["flip"])
    for key in in_turn(list(scores.worst.values()), MAX_WORST):
        by_key.setdefault(key, []).append("worst")
    by_row: dict[int, list[Reason]] = {row: ["failed"] for row in answers.failed}
    drawn = random.Random(0).sample(range(answers.rows), min(MAX_RANDOM, answers.rows))
    for row in sorted(drawn):
        by_row.setdefault(row, []).append("random")
    return _find(run, by_key, by_row)


def in_turn(lists: Sequence[Sequence[AnswerKey]], most: int) -> list[AnswerKey]:
    """The first ones of several lists in turn, each once."""
    found: dict[AnswerKey, None] = {}
    for place in range(max(map(len, lists), default=0)):
        for keys in lists:
            if place < len(keys) and len(found) < most:
                found[keys[place]] = None
    return list(found)


def _find(
    run: ScoredRun,
    by_key: Mapping[AnswerKey, Sequence[Reason]],
    by_row: Mapping[int, Sequence[Reason]],
) -> list[ShownAnswer]:
    """Find the answers with these keys and row numbers, in the order of the keys, then by row."""
    order = {key: place for place, key in enumerate(by_key)}
    ids = pl.Series(list({key[0] for key in by_key}), dtype=pl.String)
    numbers = pl.Series(list(by_row), dtype=pl.UInt32)
    found, start = [], 0
    for block in run.blocks(KEY, run.slices):
        numbered = block.with_row_index("row", start)
        start += len(block)
        named = pl.col("id").is_in(ids.implode()) | pl.col("row").is_in(numbers.implode())
        for one in numbered.filter(named).to_dicts():
            key = (one["id"], one["sample"])
            whole = (one["id"], None)
            matching = [k for k in (key, whole) if k in by_key]
            reasons = [*(r for k in matching for r in by_key[k]), *by_row.get(one["row"], ())]
            if reasons:
                place = min((order[k] for k in matching), default=len(order))
                slices = [str(value) for name, value in one.items() if name.startswith(SLICE)]
                found.append(
                    (
                        place,
                        ShownAnswer(one["row"], *key, slices, list(dict.fromkeys(reasons))),
                    )
                )
    return [answer for _, answer in sorted(found, key=lambda pair: (pair[0], pair[1].row))]
