"""Which examples are fit for training, and why the others are not."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from batchgen.feedback.training.examples import (
    AnswerContents,
    AnswerRef,
    Example,
    LabelledAnswer,
    Preference,
    Side,
)
from batchgen.privacy.entities import find_pii

AnyExample = TypeVar("AnyExample", bound=Example)


@dataclass(frozen=True, slots=True)
class ExampleFilters:
    """What is left out.

    Attributes:
        truncated: answers that ended at the length limit, unless a reviewer edited them.
        flagged: answers that a reviewer flagged.
        personal_data: examples with personal data in the prompt or in a text.
        min_agreement: least share of reviewers who agree; None for no condition.
        max_per_prompt: most examples of one prompt, those with the largest difference first; None for all.
        max_length_ratio: how many times as long one text of a preference may be as the other one; None for any.
    """

    truncated: bool = True
    flagged: bool = True
    personal_data: bool = True
    min_agreement: float | None = None
    max_per_prompt: int | None = None
    max_length_ratio: float | None = None


class ExampleFilter:
    """Applies filters, and counts what was left out by reason."""

    def __init__(
        self, filters: ExampleFilters, texts: AnswerContents, flagged: Collection[AnswerRef]
    ) -> None:
        self._filters = filters
        self._texts = texts
        self._flagged = flagged
        self.left_out: Counter[str] = Counter()

    def apply(self, examples: Iterable[AnyExample]) -> list[AnyExample]:
        """The fit examples, each text once."""
        kept: dict[tuple[object, ...], AnyExample] = {}
        for example in examples:
            reason = self._reason(example)
            if not reason:
                key = self._key(example)
                reason = "repeated" if key in kept else ""
                kept.setdefault(key, example)
            if reason:
                self.left_out[reason] += 1
        return self._at_most(self._consistent(list(kept.values())))

    def _reason(self, example: Example) -> str:
        sides = example.sides
        found = [self._texts.get(side.ref) for side in sides]
        known = [one for one in found if one is not None]
        if len(known) < len(sides):
            return "an answer is not in the runs"
        if len({one.prompt_hash for one in known}) > 1:
            return "the prompts differ"
        if not known[0].messages:
            return "the prompt was not stored"
        if any(not self._texts.text(side).strip() for side in self._positive(example)):
            return "empty"
        return self._unfit(example, sides)

    def _unfit(self, example: Example, sides: Sequence[Side]) -> str:
        filters, origin = self._filters, example.origin
        least = filters.min_agreement
        reasons = {
            "identical": isinstance(example, Preference) and self._identical(example),
            "truncated": filters.truncated and any(map(self._is_truncated, sides)),
            "flagged": filters.flagged and any(side.ref in self._flagged for side in sides),
            "too little agreement": least is not None
            and origin.raters > 0
            and (origin.agreement or 0.0) < least,
            "length ratio": isinstance(example, Preference) and self._too_long(example),
            "personal data": filters.personal_data and self._has_personal_data(sides),
        }
        return next((reason for reason, found in reasons.items() if found), "")

    def _positive(self, example: Example) -> Sequence[Side]:
        """The texts that a model is to learn: an empty one teaches nothing."""
        return (example.chosen,) if isinstance(example, Preference) else example.sides

    def _identical(self, example: Preference) -> bool:
        one, other = (" ".join(self._texts.text(side).split()).casefold() for side in example.sides)
        return one == other

    def _is_truncated(self, side: Side) -> bool:
        found = self._texts.get(side.ref)
        return not side.edited and found is not None and found.finish_reason == "length"

    def _too_long(self, example: Preference) -> bool:
        most = self._filters.max_length_ratio
        lengths = sorted(len(self._texts.text(side)) for side in example.sides)
        return most is not None and lengths[1] > most * max(1, lengths[0])

    def _has_personal_data(self, sides: Sequence[Side]) -> bool:
        found = self._texts.get(sides[0].ref)
        prompt = [] if found is None else [one["content"] or "" for one in found.messages]
        return any(find_pii(text) for text in (*prompt, *map(self._texts.text, sides)))

    def _key(self, example: Example) -> tuple[object, ...]:
        texts = tuple(map(self._texts.text, example.sides))
        label = example.label if isinstance(example, LabelledAnswer) else None
        return (self.prompt(example), *texts, label)

    def prompt(self, example: Example) -> str:
        """The hash of the prompt of an example whose answers were loaded."""
        found = self._texts.get(example.sides[0].ref)
        return "" if found is None else found.prompt_hash

    def _consistent(self, examples: list[AnyExample]) -> list[AnyExample]:
        """Without texts that are good by one source and bad by another one, and pairs that are in both directions."""
        labels: dict[tuple[object, ...], set[object]] = defaultdict(set)
        for example in examples:
            subject, verdict = self._verdict(example)
            labels[subject].add(verdict)
        kept = [one for one in examples if len(labels[self._verdict(one)[0]]) == 1]
        if len(kept) < len(examples):
            self.left_out["contradictory"] += len(examples) - len(kept)
        return kept

    def _verdict(self, example: Example) -> tuple[tuple[object, ...], object]:
        texts = tuple(map(self._texts.text, example.sides))
        if isinstance(example, Preference):
            return (self.prompt(example), *sorted(texts)), texts[0]
        return (self.prompt(example), *texts), example.label

    def _at_most(self, examples: list[AnyExample]) -> list[AnyExample]:
        most = self._filters.max_per_prompt
        if most is None:
            return examples
        best = sorted(examples, key=lambda one: -(one.origin.difference or 0.0))
        count: Counter[str] = Counter()
        chosen: set[int] = set()
        for example in best:
            prompt = self.prompt(example)
            count[prompt] += 1
            if count[prompt] <= most:
                chosen.add(id(example))
        kept = [one for one in examples if id(one) in chosen]
        if len(kept) < len(examples):
            self.left_out["more than max-per-prompt"] += len(examples) - len(kept)
        return kept
