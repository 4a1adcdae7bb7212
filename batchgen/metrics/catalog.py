"""Every metric there is: its type, what a job may say about it, and how one is made of that.

To add a metric: a section in `job/reference_options.py` or `response_options.py`, a file here, a function in
`makers.py`, an entry below.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from batchgen.evaluation.judging.scores import TYPE, VERSION
from batchgen.job import metric_options as options
from batchgen.job.judge import Judge
from batchgen.job.metric_options import MetricOptions
from batchgen.jobfile.docs.reference import default_of
from batchgen.jobfile.messages.expected_types import key_of, section_fields
from batchgen.metrics import makers
from batchgen.metrics.base import Metric, Spec, Unit

Options = TypeVar("Options", bound=MetricOptions)


@dataclass(frozen=True, slots=True)
class OptionDescription:
    """A key of a metric, in words. `default` is "required" where there is none."""

    name: str
    expects: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class MetricDescription:
    """A metric, in words."""

    type: str
    measures: str
    unit: Unit
    higher_is_better: bool | None
    version: int
    options: tuple[OptionDescription, ...]


@dataclass(frozen=True, slots=True)
class RegisteredMetric(Generic[Options]):
    """A type of metric.

    Attributes:
        options: what a job may say; its docstring says what is measured.
        make: a spec with the job's name, and the options, to metrics; most types make one, `rouge` one per variant.
        version: raised whenever the same text may get another value than before.
        unit: of its values.
        higher_is_better: None where neither is.
    """

    options: type[Options]
    make: Callable[[Spec, Options], tuple[Metric, ...]]
    unit: Unit = "fraction"
    higher_is_better: bool | None = True
    version: int = 1

    @property
    def type(self) -> str:
        """The word in the job."""
        word: str = self.options.model_fields["type"].default
        return word

    def described(self) -> MetricDescription:
        """What `batchgen metrics` says about it."""
        found = _described_options(self.options)
        measures = " ".join((self.options.__doc__ or "").split())
        return MetricDescription(
            self.type, measures, self.unit, self.higher_is_better, self.version, found
        )


def describe_judge() -> MetricDescription:
    """What `batchgen metrics` says about `evaluate.judges`: models, but their scores are metrics like all others."""
    measures = " ".join((Judge.__doc__ or "").split())
    return MetricDescription(TYPE, measures, "score", True, VERSION, _described_options(Judge))


def _described_options(section: type[BaseModel]) -> tuple[OptionDescription, ...]:
    found = section_fields(section)
    keys = ((key_of(name, field), field) for name, field in section.model_fields.items())
    return tuple(
        OptionDescription(key, str(found[key]), default_of(field), found[key].description)
        for key, field in keys
        if key != "type"
    )


def make_metrics(asked: MetricOptions) -> tuple[Metric, ...]:
    """The metrics that an entry of `evaluate.metrics` asks for.

    Raises:
        DataError: if a file that it names cannot be read, or a package that it needs is not installed.
    """
    entry = REGISTRY[asked.type]
    name = asked.name or asked.type
    spec = Spec(name, asked.type, entry.version, entry.unit, entry.higher_is_better)
    return entry.make(spec, asked)


_ENTRIES: tuple[RegisteredMetric[Any], ...] = (
    RegisteredMetric(options.ExactOptions, makers.exact),
    RegisteredMetric(options.NormalizedMatchOptions, makers.normalized_match),
    RegisteredMetric(options.ContainsOptions, makers.contains),
    RegisteredMetric(options.RegexOptions, makers.regex_),
    RegisteredMetric(options.ChoiceOptions, makers.choice),
    RegisteredMetric(options.NumberOptions, makers.number),
    RegisteredMetric(options.TokenF1Options, makers.token_f1),
    RegisteredMetric(options.RougeOptions, makers.rouge),
    RegisteredMetric(options.ChrFOptions, makers.chrf, unit="score"),
    RegisteredMetric(options.BleuOptions, makers.bleu, unit="score"),
    RegisteredMetric(
        options.EditDistanceOptions, makers.edit_distance, unit="count", higher_is_better=False
    ),
    RegisteredMetric(options.CerOptions, makers.cer, unit="score", higher_is_better=False),
    RegisteredMetric(options.JsonOptions, makers.json),
    RegisteredMetric(options.JsonSchemaOptions, makers.json_schema),
    RegisteredMetric(options.ConstraintsOptions, makers.constraints),
    RegisteredMetric(options.LengthOptions, makers.length_, unit="count", higher_is_better=None),
    RegisteredMetric(options.LanguageOptions, makers.language_),
    RegisteredMetric(options.RepetitionOptions, makers.repetition, higher_is_better=False),
    RegisteredMetric(options.RefusalOptions, makers.refusal, higher_is_better=False),
    RegisteredMetric(options.PiiOptions, makers.pii, higher_is_better=False),
    RegisteredMetric(options.PassAtKOptions, makers.pass_at_k),
    RegisteredMetric(options.AllOfKOptions, makers.all_of_k),
    RegisteredMetric(options.MajorityOptions, makers.majority),
    RegisteredMetric(options.SampleDiversityOptions, makers.sample_diversity),
    RegisteredMetric(options.DistinctOptions, makers.distinct),
    RegisteredMetric(options.DuplicatesOptions, makers.duplicates, higher_is_better=False),
    RegisteredMetric(options.LoglikelihoodOptions, makers.loglikelihood, unit="score"),
    RegisteredMetric(
        options.PerplexityOptions, makers.perplexity, unit="score", higher_is_better=False
    ),
    RegisteredMetric(
        options.BitsPerByteOptions, makers.bits_per_byte, unit="score", higher_is_better=False
    ),
    RegisteredMetric(options.MultipleChoiceOptions, makers.multiple_choice),
    RegisteredMetric(options.PythonOptions, makers.python, unit="score"),
)

REGISTRY: Mapping[str, RegisteredMetric[Any]] = {entry.type: entry for entry in _ENTRIES}
"""All types of metrics, by name."""
