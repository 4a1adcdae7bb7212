"""Drift between two runs: a test of each trait of their answers, with p adjusted for the number of tests."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from batchgen.evaluation.drift.answer_traits import REFUSAL_NAME, AnswerTraits
from batchgen.evaluation.gating.gate_facts import ENGLISH, Fact, fact, percent
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
class ChangedValue:
    """A value in both runs: the median of lengths, or the share of a category; `name` is that of the category."""

    name: str
    before: float
    now: float


@dataclass(frozen=True, slots=True)
class Drift:
    """A trait of the answers of two runs.

    Attributes:
        base: prompts of the base run that have the trait, `new` those of the new run.
        values: what changed most.
        test: None if a run has no answer with the trait.
        p: adjusted for the number of tests (Holm).
    """

    kind: DriftKind
    base: int
    new: int
    values: Sequence[ChangedValue]
    test: DriftTest | None
    p: float | None = None

    @property
    def why(self) -> Fact | None:
        """Why there is no test; None if there is one."""
        if self.test is not None:
            return None
        return fact(
            "no_new_answers" if self.base else "no_base_answers" if self.new else "no_answers"
        )

    @property
    def is_drift(self) -> bool:
        return self.p is not None and self.p < ALARM

    @property
    def change(self) -> str:
        """The values in words, such as `median 80 -> 96 characters`, or why there are none."""
        if self.kind == "length":
            texts = [f"median {v.before:,.4g} -> {v.now:,.4g} characters" for v in self.values]
        else:
            texts = [
                f"{v.name} {percent(v.before)} -> {percent(v.now)}".lstrip() for v in self.values
            ]
        return ", ".join(texts) or (ENGLISH.word(self.why) if self.why else "")

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        why = ENGLISH.word(self.why) if self.why else ""
        return {**asdict(self), "why": why, "change": self.change, "drift": self.is_drift}


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
    test = compare_numbers(base.lengths, new.lengths)
    return Drift("length", n, m, [ChangedValue("", before, now)], test)


def _of_duplicates(base: AnswerTraits, new: AnswerTraits) -> Drift:
    n, m = base.texts.count, new.texts.count
    if not n or not m:
        return _unknown("duplicates", n, m)
    value = ChangedValue("", duplicate_share(base.texts), duplicate_share(new.texts))
    return Drift("duplicates", n, m, [value], compare_duplicates(base.texts, new.texts))


def _of_categories(kind: DriftKind, base: AnswerTraits, new: AnswerTraits) -> Drift:
    one, other = base.categories[kind], new.categories[kind]
    names = sorted({*one.counts, *other.counts})
    before, now = one.shares(names), other.shares(names)
    if not len(before) or not len(now):
        return _unknown(kind, len(before), len(now))
    means = zip(names, before.mean(axis=0), now.mean(axis=0), strict=True)
    values = [ChangedValue(name, float(a), float(b)) for name, a, b in means]
    if kind == "refusal":
        refusals = [value for value in values if value.name == REFUSAL_NAME]
        values = refusals or [ChangedValue(REFUSAL_NAME, 0.0, 0.0)]
    values.sort(key=lambda value: -abs(value.now - value.before))
    test = compare_shares(before, now)
    return Drift(kind, len(before), len(now), values[:_NAMED_CATEGORIES], test)


def _unknown(kind: DriftKind, base: int, new: int) -> Drift:
    return Drift(kind, base, new, (), None)
