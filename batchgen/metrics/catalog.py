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
from batchgen.jobfile.messages.expected_types import fields, key_of
from batchgen.metrics import makers
from batchgen.metrics.base import Metric, Spec, Unit

Options = TypeVar("Options", bound=MetricOptions)


@dataclass(frozen=True, slots=True)
class DescribedOption:
    """A key of a metric, in words. `default` is "required" where there is none."""

    name: str
    expects: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Described:
    """A metric, in words."""

    type: str
    measures: str
    unit: Unit
    higher_is_better: bool | None
    version: int
    options: tuple[DescribedOption, ...]


@dataclass(frozen=True, slots=True)
class Entry(Generic[Options]):
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

    def described(self) -> Described:
        """What `batchgen metrics` says about it."""
        found = _described_options(self.options)
        measures = " ".join((self.options.__doc__ or "").split())
        return Described(self.type, measures, self.unit, self.higher_is_better, self.version, found)


def described_judge() -> Described:
    """What `batchgen metrics` says about `evaluate.judges`: models, but their scores are metrics like all others."""
    measures = " ".join((Judge.__doc__ or "").split())
    return Described(TYPE, measures, "score", True, VERSION, _described_options(Judge))


def _described_options(section: type[BaseModel]) -> tuple[DescribedOption, ...]:
    found = fields(section)
    keys = ((key_of(name, field), field) for name, field in section.model_fields.items())
    return tuple(
        DescribedOption(key, str(found[key]), default_of(field), found[key].description)
        for key, field in keys
        if key != "type"
    )


def make_metrics(asked: MetricOptions) -> tuple[Metric, ...]:
    """The metrics that an entry of `evaluate.metrics` asks for.

    Raises:
        DataError: if a file that it names cannot be read, or a package that it needs is not installed.
    """
    entry = CATALOG[asked.type]
    name = asked.name or asked.type
    spec = Spec(name, asked.type, entry.version, entry.unit, entry.higher_is_better)
    return entry.make(spec, asked)


_ENTRIES: tuple[Entry[Any], ...] = (
    Entry(options.ExactOptions, makers.exact),
    Entry(options.NormalizedMatchOptions, makers.normalized_match),
    Entry(options.ContainsOptions, makers.contains),
    Entry(options.RegexOptions, makers.regex_),
    Entry(options.ChoiceOptions, makers.choice),
    Entry(options.NumberOptions, makers.number),
    Entry(options.TokenF1Options, makers.token_f1),
    Entry(options.RougeOptions, makers.rouge),
    Entry(options.ChrFOptions, makers.chrf, unit="score"),
    Entry(options.BleuOptions, makers.bleu, unit="score"),
    Entry(options.EditDistanceOptions, makers.edit_distance, unit="count", higher_is_better=False),
    Entry(options.CerOptions, makers.cer, unit="score", higher_is_better=False),
    Entry(options.JsonOptions, makers.json),
    Entry(options.JsonSchemaOptions, makers.json_schema),
    Entry(options.ConstraintsOptions, makers.constraints),
    Entry(options.LengthOptions, makers.length_, unit="count", higher_is_better=None),
    Entry(options.LanguageOptions, makers.language_),
    Entry(options.RepetitionOptions, makers.repetition, higher_is_better=False),
    Entry(options.RefusalOptions, makers.refusal, higher_is_better=False),
    Entry(options.PiiOptions, makers.pii, higher_is_better=False),
    Entry(options.PassAtKOptions, makers.pass_at_k),
    Entry(options.AllOfKOptions, makers.all_of_k),
    Entry(options.MajorityOptions, makers.majority),
    Entry(options.SampleDiversityOptions, makers.sample_diversity),
    Entry(options.DistinctOptions, makers.distinct),
    Entry(options.DuplicatesOptions, makers.duplicates, higher_is_better=False),
    Entry(options.LoglikelihoodOptions, makers.loglikelihood, unit="score"),
    Entry(options.PerplexityOptions, makers.perplexity, unit="score", higher_is_better=False),
    Entry(options.BitsPerByteOptions, makers.bits_per_byte, unit="score", higher_is_better=False),
    Entry(options.MultipleChoiceOptions, makers.multiple_choice),
    Entry(options.PythonOptions, makers.python, unit="score"),
)

CATALOG: Mapping[str, Entry[Any]] = {entry.type: entry for entry in _ENTRIES}
"""All types of metrics, by name."""
