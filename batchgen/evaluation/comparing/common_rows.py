"""The answers that two runs have in common: those of one id and sample, to the same prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchgen.evaluation.comparing.paired_rows import AnswerKeys, Mask, Ranks, index_keys, join_keys
from batchgen.evaluation.comparing.scored_run import ScoredRun
from batchgen.evaluation.comparing.text_order import TextOrder
from batchgen.job.evaluate import Bins

MAX_EXAMPLE_IDS = 10
"""Most ids to list of rows that do not pair."""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Excluded rows, and some of their ids."""

    count: int
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class PairedAnswers:
    """The answers of two runs.

    Attributes:
        common: those of the base run, in its order, with their slices.
        prompts_known: both have prompt hashes, so changed prompts are detected.
    """

    common: AnswerKeys
    only_base: Unpaired
    only_new: Unpaired
    changed_prompts: Unpaired
    prompts_known: bool


def pair_answers(
    base: ScoredRun,
    new: ScoredRun,
    ids: TextOrder,
    cuts: Sequence[str | Bins],
    *,
    keep_changed: bool = False,
) -> PairedAnswers:
    """Pair the answers of two runs; `ids` is the order of the ids of both, and `cuts` slice the rows of the base run.

    With `keep_changed`, answers to different prompts are paired too, and counted as changed.
    """
    before = base.rows(ids, cuts)
    matches = _match(before, new, ids)
    paired = matches.found if keep_changed else matches.found & ~matches.changed
    common = replace(before, prompts=None).select(paired)
    return PairedAnswers(
        common,
        only_base=_unpaired(before.ids[~matches.found], base, ids),
        only_new=_unpaired(matches.others, new, ids),
        changed_prompts=_unpaired(before.ids[matches.changed], base, ids),
        prompts_known=matches.prompts_known,
    )


@dataclass(frozen=True, slots=True)
class _Matches:
    """Which rows of the base run the new one has.

    Attributes:
        found: bool [rows of the base run].
        changed: those of them with another prompt: bool [rows of the base run].
        others: uint32, the ids of the rows that only the new run has.
    """

    found: Mask
    changed: Mask
    others: Ranks
    prompts_known: bool


def _match(before: AnswerKeys, new: ScoredRun, ids: TextOrder) -> _Matches:
    """Match the rows of a run, a block at a time; StateError if two have the same id and sample."""
    index = index_keys(before.numbers())
    found, changed = np.zeros(len(before), np.bool_), np.zeros(len(before), np.bool_)
    others, hits, prompts_known = [], 0, before.prompts is not None
    for block in new.key_blocks(ids):
        at = index.find(block.numbers())
        known = at >= 0
        others.append(block.select(~known))
        at = at[known]
        found[at] = True
        hits += len(at)
        if before.prompts is None or block.prompts is None:
            prompts_known = False
        else:
            one, other = before.prompts[at], block.prompts[known]
            changed[at] = (one != other) & (one != 0) & (other != 0)
    only_new = join_keys(iter(others), sum(map(len, others)))
    new.check_once(only_new, ids)
    if hits > found.sum():
        new.rows(ids)  # raises the error, with the id
    return _Matches(found, changed, only_new.ids, prompts_known)


def _unpaired(rows: Ranks, run: ScoredRun, ids: TextOrder) -> Unpaired:
    ranks: dict[int, None] = {}
    for rank in map(int, rows):
        ranks[rank] = None
        if len(ranks) == MAX_EXAMPLE_IDS:
            break
    texts = run.find_ids(ranks, ids)
    return Unpaired(len(rows), [texts[rank] for rank in ranks])
