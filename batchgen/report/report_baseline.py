"""A run against its baseline: the comparison, the answers that changed most, and the baseline's answers to the same prompts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from batchgen.errors import UsageError
from batchgen.evaluation.comparing.compare import Comparison, compare_runs
from batchgen.evaluation.comparing.pairs import Flip
from batchgen.evaluation.comparing.scored_run import (
    KEY,
    ScoredRun,
    open_scored_run,
    read_response_texts,
)
from batchgen.report.reported_run import ReportedRun
from batchgen.report.rows.row_choice import ShownAnswer, in_turn
from batchgen.report.rows.row_records import read_scores
from batchgen.report.rows.score_survey import AnswerKey

MAX_FLIPS = 100


@dataclass(frozen=True, slots=True)
class Baseline:
    """The base run, and its comparison with the reported one."""

    scored: ScoredRun
    comparison: Comparison

    @property
    def flips(self) -> list[AnswerKey]:
        """The answers that changed most: those that got worse, then those that got better."""
        directed = [m for m in self.comparison.metrics if m.higher_is_better is not None]
        metrics = [m for m in directed if m.primary] or directed
        worse = in_turn([_keys(one.regressions) for one in metrics], MAX_FLIPS)
        better = in_turn([_keys(one.improvements) for one in metrics], MAX_FLIPS)
        return list(dict.fromkeys([*worse, *better]))[:MAX_FLIPS]

    def add_to(
        self, records: Sequence[Mapping[str, Any]], shown: Sequence[ShownAnswer], run: ScoredRun
    ) -> list[dict[str, Any]]:
        """The records with the baseline's answer and scores, where it answered the same prompt."""
        same = _same_prompts(
            run, self.scored, shown, any_prompt=self.comparison.pairs_changed_prompts
        )
        texts = read_response_texts(self.scored, same)
        scores = read_scores(self.scored, {one[0] for one in same})
        found = []
        for record in records:
            key = (record["id"], record["sample"])
            added = {}
            if key in texts:
                whole, own = scores.get((key[0], None), {}), scores.get(key, {})
                added = {"base": texts[key], "base_scores": {**whole, **own}}
            found.append({**record, **added})
        return found


def open_baseline(
    run: ReportedRun,
    path: Path,
    *,
    metrics: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
    pair_changed_prompts: bool = False,
) -> Baseline:
    """Compare a run with the one at `path`; see `compare`.

    Raises:
        UsageError: that one is unfinished or has no scores, or they have no answer to the same prompt in common.
        StateError: files are damaged.
    """
    base = open_scored_run(path)
    comparison = compare_runs(
        base,
        run.scored,
        metrics=metrics,
        margins=margins,
        cuts=run.scored.slices,
        max_examples=MAX_FLIPS,
        pair_changed_prompts=pair_changed_prompts,
    )
    check_common_rows(comparison)
    return Baseline(base, comparison)


def check_common_rows(comparison: Comparison) -> None:
    """Raise UsageError if no answer can be compared."""
    if comparison.common:
        return
    problem = f"{comparison.new} and {comparison.base} have no answer to the same prompt in common"
    if changed := comparison.changed_prompts.count:
        one = changed == 1
        problem += (
            ": the prompt of 1 row differs" if one else f": the prompts of {changed:,} rows differ"
        )
        hint = "To compare prompts, use batchgen compare BASE NEW --pair-changed-prompts -o FILE."
    else:
        hint = "Give a baseline with the same ids and prompts."
    raise UsageError(problem, hint=hint)


def _keys(flips: Iterable[Flip]) -> list[AnswerKey]:
    return [(flip.id, flip.sample) for flip in flips]


def _same_prompts(
    run: ScoredRun, base: ScoredRun, shown: Sequence[ShownAnswer], *, any_prompt: bool
) -> list[tuple[str, int]]:
    """The keys of shown answers that the base run has, to the same prompt as far as that is known, or to `any_prompt`."""
    wanted = pl.DataFrame(
        {"id": [one.id for one in shown], "sample": [one.sample for one in shown]},
        schema={"id": pl.String, "sample": pl.Int32},
    )
    now, before = _prompts(run, wanted), _prompts(base, wanted)
    known = (
        any_prompt or now[key] is None or prompt in (None, now[key])
        for key, prompt in before.items()
    )
    return [key for key, same in zip(before, known, strict=True) if same]


def _prompts(run: ScoredRun, wanted: pl.DataFrame) -> dict[tuple[str, int], str | None]:
    """The prompt hashes of wanted answers that a run has; None where it is not known."""
    found: dict[tuple[str, int], str | None] = {}
    for block in run.blocks((*KEY, "prompt")):
        for one in block.join(wanted, on=list(KEY), how="semi").to_dicts():
            found[one["id"], one["sample"]] = one.get("prompt")
    return found
