"""Drift between two runs: a test of each trait of their answers, with p adjusted for the number of tests."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from batchgen.evaluation.drift.answer_traits import AnswerTraits
from batchgen.job.evaluate import DriftKind
from batchgen.metrics.statistics.drift_tests import (
    DriftTest,
    compare_duplicates,
    compare_numbers,
    compare_shares,
    duplicate_share,
)
from batchgen.metrics.statistics.paired_results import adjust_holm

DRIFT_KINDS: tuple[DriftKind, ...] = (
    "length",
    "finish_reason",
    "refusal",
    "language",
    "duplicates",
)
ALARM = 0.01
"""An adjusted p below this is shown as drift where no gate sets a limit."""
_NAMED_CATEGORIES = 2


@dataclass(frozen=True, slots=True)
class Drift:
    """A trait of the answers of two runs.

    Attributes:
        base: prompts of the base run that have the trait, `new` those of the new run.
        change: the values of both in words, such as `median 80 -> 96 characters`.
        test: None if a run has no answer with the trait; `change` gives the reason.
        p: adjusted for the number of tests (Holm).
    """

    kind: DriftKind
    base: int
    new: int
    change: str
    test: DriftTest | None
    p: float | None = None

    @property
    def is_drift(self) -> bool:
        return self.p is not None and self.p < ALARM

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "drift": self.is_drift}


def measure_drift(base: AnswerTraits, new: AnswerTraits, kinds: Sequence[DriftKind]) -> list[Drift]:
    """Test each of these kinds once."""
    found = [_measure(kind, base, new) for kind in kinds]
    adjusted = adjust_holm([one.test.p if one.test else None for one in found])
    return [replace(one, p=p) for one, p in zip(found, adjusted, strict=True)]


def _measure(kind: DriftKind, base: AnswerTraits, new: AnswerTraits) -> Drift:
    if kind == "length":
        return _of_lengths(base, new)
    if kind == "duplicates":
        return _of_duplicates(base, new)
    return _of_categories(kind, base, new)


def _of_lengths(base: AnswerTraits, new: AnswerTraits) -> Drift:
    n, m = len(base.lengths), len(new.lengths)
    if not n or not m:
        return _unknown("length", n, m)
    before, now = float(np.median(base.lengths)), float(np.median(new.lengths))
    change = f"median {before:,.4g} -> {now:,.4g} characters"
    return Drift("length", n, m, change, compare_numbers(base.lengths, new.lengths))


def _of_duplicates(base: AnswerTraits, new: AnswerTraits) -> Drift:
    n, m = base.texts.count, new.texts.count
    if not n or not m:
        return _unknown("duplicates", n, m)
    shares = duplicate_share(base.texts), duplicate_share(new.texts)
    change = f"{_percent(shares[0])} -> {_percent(shares[1])} of answers"
    return Drift("duplicates", n, m, change, compare_duplicates(base.texts, new.texts))


def _of_categories(kind: DriftKind, base: AnswerTraits, new: AnswerTraits) -> Drift:
    one, other = base.categories[kind], new.categories[kind]
    names = sorted({*one.counts, *other.counts})
    before, now = one.shares(names), other.shares(names)
    if not len(before) or not len(now):
        return _unknown(kind, len(before), len(now))
    means = list(zip(before.mean(axis=0), now.mean(axis=0), names, strict=True))
    means.sort(key=lambda one: -abs(one[1] - one[0]))
    shown = [m for m in means if kind != "refusal" or m[2] == "refusal"][:_NAMED_CATEGORIES]
    change = ", ".join(f"{name} {_percent(a)} -> {_percent(b)}" for a, b, name in shown)
    return Drift(kind, len(before), len(now), change or "no refusals", compare_shares(before, now))


def _unknown(kind: DriftKind, base: int, new: int) -> Drift:
    if base or new:
        why = f"the {'new' if base else 'base'} run has no answer to measure"
    else:
        why = "neither run has an answer to measure"
    return Drift(kind, base, new, why, None)


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.2f} %" if 0 < percent < 1 else f"{percent:.1f} %"
