"""Whether the model finds the right option most likely: multiple choice without generating.

    acc        of lm-eval: normalize none            acc_norm: characters            acc_bytes: bytes

Options are numbered from 0 and labelled A, B, C unless their column names them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from batchgen.metrics.base import (
    Answer,
    MetricOptions,
    MetricType,
    Spec,
    unscored,
    without_reference,
)
from batchgen.metrics.likelihood import AfterPrompt
from batchgen.metrics.likelihood_columns import TextLikelihood, text_likelihoods
from batchgen.metrics.options import (
    LABELS,
    AmbiguousReferenceError,
    Gold,
    OptionTexts,
    gold_labels,
    read_options,
)
from batchgen.records import Score
from batchgen.section import NonEmptyText

Normalize = Literal["none", "characters", "bytes"]


class MultipleChoiceOptions(MetricOptions, AfterPrompt):
    """The option that the model finds most likely after the row's prompt is the right one; nothing is generated for it.

    The reference names the right one: its text, its label (A, B, C), or its number from 0.
    """

    type: Literal["multiple_choice"] = "multiple_choice"
    options: NonEmptyText
    """Column with the texts of the options: a list, a mapping by label, {text, label} as in ARC, or JSON of these."""
    normalize: Normalize = "none"
    """Divisor of an option's log-probability, so that long options can win; the delimiter is not counted. characters: acc_norm of lm-eval."""
    gold: Gold = "auto"
    """How to read the reference. auto: whichever fits; a row where two readings disagree is not scored, but a whole number in a column of numbers is an index."""


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """1 if the most likely option is the reference's."""

    spec: Spec
    options: MultipleChoiceOptions

    @property
    def stride(self) -> None:
        """None: an option in windows would not have the whole prompt before it."""

    def continuations(self, answer: Answer) -> Sequence[str]:
        """The options with the delimiter before each, if the row can be scored."""
        options = self._options(answer)
        texts = () if isinstance(options, Score) else options.texts.values()
        return [self.options.delimiter + text for text in texts]

    def score(self, answer: Answer) -> Score:
        """Score an answer. `answer` of the score is the label of the most likely option.

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
        if len(known) != len(options.texts):
            return unscored(self.spec, "skipped")
        return self._chosen(options.texts, right, known)

    def _chosen(
        self, options: Mapping[str, str], right: set[str], known: Sequence[TextLikelihood]
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

    def _options(self, answer: Answer) -> OptionTexts | Score:
        """The options by label, in their order."""
        options = read_options(answer.fields.get(self.options.options), LABELS)
        if len(options.texts) < 2:
            return unscored(self.spec, "unparsed", "options")
        if not all(options.texts.values()):
            return unscored(self.spec, "unparsed", "empty_option")
        return options

    def _right(self, answer: Answer, options: OptionTexts) -> set[str] | Score:
        if not answer.references:
            return without_reference(self.spec, readable=answer.readable)
        right: set[str] = set()
        for reference in answer.references:
            integer = reference in answer.integer_references
            try:
                right |= gold_labels(reference, options, self.options.gold, integer=integer)
            except AmbiguousReferenceError:
                return unscored(self.spec, "unparsed", "ambiguous_reference")
        return right or unscored(self.spec, "unparsed", "reference")

    def _size(self, text: str) -> int:
        if self.options.normalize == "bytes":
            return len(text.encode("utf-8", "surrogatepass"))
        return len(text) if self.options.normalize == "characters" else 1


# Reads the likelihoods of the options, not the response: rows without a response are scored as well.
MULTIPLE_CHOICE = MetricType(MultipleChoiceOptions, MultipleChoice, needs="nothing", version=2)
