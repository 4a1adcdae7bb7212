"""Whether the model finds the right option most likely: multiple choice without generating.

    acc        of lm-eval: normalize none            acc_norm: characters            acc_bytes: bytes

Options are numbered from 0 and labelled A, B, C unless their column names them.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from batchgen.metrics.base import Answer, Spec, unscored
from batchgen.metrics.choice import options_of
from batchgen.metrics.texts import normalize
from batchgen.metrics.told import TextLikelihood, text_likelihoods
from batchgen.records import Score

Normalize = Literal["none", "characters", "bytes"]
Gold = Literal["auto", "text", "label", "index"]

LABELS = (
    *string.ascii_uppercase,
    *map("".join, product(string.ascii_uppercase, repeat=2)),
)
"""Of options without names of their own."""


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """1 if the most likely option is the reference's.

    Attributes:
        column: the column with the options.
        delimiter: put between prompt and option.
        normalize: what log-probabilities are divided by.
        gold: how the reference says which option is right.
    """

    spec: Spec
    column: str
    delimiter: str
    normalize: Normalize
    gold: Gold

    def continuations(self, answer: Answer) -> Sequence[str]:
        """See `ModelMetric`: the options, if the row can be scored."""
        options = self._options(answer)
        return () if isinstance(options, Score) else [self.delimiter + t for t in options.values()]

    def score(self, answer: Answer) -> Score:
        """1, or 0; the answer is the label of the option that was found most likely.

        Where several are exactly as likely, the model has not chosen: 0 with status `no_answer` if the right one is
        among them and another text as well.
        """
        options = self._options(answer)
        if isinstance(options, Score):
            return options
        right = self._right(answer, options)
        if isinstance(right, Score):
            return right
        known = text_likelihoods(answer, self.spec.name)
        if len(known) != len(options):
            return unscored(self.spec, "skipped")
        return self._chosen(options, right, known)

    def _chosen(
        self, options: dict[str, str], right: set[str], known: Sequence[TextLikelihood]
    ) -> Score:
        if failure := next((one.failure for one in known if one.failure), ""):
            return unscored(self.spec, "error", failure)
        values = {
            label: one.logprob / self._size(text)
            for (label, text), one in zip(options.items(), known, strict=True)
        }
        best = [label for label, value in values.items() if value == max(values.values())]
        texts = {options[label] for label in best}
        if len(texts) > 1 and right & set(best):
            return Score(self.spec.name, 0.0, "no_answer", "=".join(best), "tie")
        return Score(self.spec.name, float(bool(right & set(best))), "ok", best[0], "likeliest")

    def _options(self, answer: Answer) -> dict[str, str] | Score:
        """The options by label, in their order."""
        options = dict(options_of(answer.fields.get(self.column), LABELS))
        if len(options) < 2:
            return unscored(self.spec, "unparsed", "options")
        if not all(options.values()):
            return unscored(self.spec, "unparsed", "empty_option")
        return options

    def _right(self, answer: Answer, options: dict[str, str]) -> set[str] | Score:
        """The labels of the right options."""
        if not answer.references:
            return unscored(self.spec, "no_reference")
        right: set[str] = set()
        for reference in answer.references:
            read = [labels for labels in self._readings(reference, options) if labels]
            if any(labels != read[0] for labels in read):
                return unscored(self.spec, "unparsed", "ambiguous_reference")
            right |= read[0] if read else set()
        return right or unscored(self.spec, "unparsed", "reference")

    def _readings(self, reference: str, options: dict[str, str]) -> list[set[str]]:
        """The labels that a reference means, by each way to read it that the job allows."""
        labels, form, word = list(options), normalize(reference), reference.strip()
        ways: dict[Gold, set[str]] = {
            "text": {label for label, text in options.items() if normalize(text) == form},
            "label": {label for label in labels if label.casefold() == word.casefold()},
            "index": {labels[int(word)]}
            if word.isascii() and word.isdecimal() and len(word) < 9 and int(word) < len(labels)
            else set(),
        }
        return [found for way, found in ways.items() if self.gold in ("auto", way)]

    def _size(self, text: str) -> int:
        if self.normalize == "none":
            return 1
        if self.normalize == "characters":
            return len(text)
        return len(text.encode("utf-8", "surrogatepass"))
