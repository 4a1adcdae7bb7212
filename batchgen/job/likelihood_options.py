"""What a job may say about metrics that ask the model how likely given texts are."""

from typing import Literal

from batchgen.job.metric_section import MetricOptions
from batchgen.section import NonEmptyText, Section


class AfterPrompt(Section):
    """What every metric has that asks the model how likely given texts are after the row's prompt."""

    delimiter: str = ""
    """Put between prompt and text. With a chat template nothing belongs there; after a plain prompt such as `Answer:` often a space."""


class TextAfterPrompt(AfterPrompt):
    """What metrics have that look at one text."""

    column: NonEmptyText | None = None
    """Column with the text; `response` is the answer itself. Left out: the references, of which the most likely one counts."""


class LoglikelihoodOptions(MetricOptions, TextAfterPrompt):
    """Log-probability (natural) of a text after the row's prompt, as the model would have to write it; higher is likelier."""

    type: Literal["loglikelihood"] = "loglikelihood"
    per: Literal["text", "token"] = "text"
    """text: of the whole. token: the mean over its tokens, for texts of different lengths."""


class PerplexityOptions(MetricOptions, TextAfterPrompt):
    """exp of the mean negative log-probability of a text's tokens after the row's prompt; of all rows, over all their tokens."""

    type: Literal["perplexity"] = "perplexity"


class BitsPerByteOptions(MetricOptions, TextAfterPrompt):
    """Negative log2-probability of a text by its UTF-8 bytes: comparable between tokenizers; of all rows, over all their bytes."""

    type: Literal["bits_per_byte"] = "bits_per_byte"


class MultipleChoiceOptions(MetricOptions, AfterPrompt):
    """The option that the model finds most likely after the row's prompt is the right one; nothing is generated for it.

    The reference says which one is right: its text, its label (A, B, C), or its number from 0.
    """

    type: Literal["multiple_choice"] = "multiple_choice"
    options: NonEmptyText
    """Column with the texts of the options: a list, a mapping by label, or JSON of either."""
    normalize: Literal["none", "characters", "bytes"] = "none"
    """What an option's log-probability is divided by, so that long ones may win; delimiter not counted. characters: acc_norm of lm-eval."""
    gold: Literal["auto", "text", "label", "index"] = "auto"
    """How to read the reference. auto: whichever fits; a row where two readings disagree is not scored."""
