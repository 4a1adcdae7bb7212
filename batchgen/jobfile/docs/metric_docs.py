"""Descriptions of all metrics and their options, for `batchgen metrics`."""

from dataclasses import dataclass

from pydantic import BaseModel

from batchgen.job.judge import TYPE, VERSION, Judge
from batchgen.jobfile.docs.reference import default_of
from batchgen.jobfile.messages.expected_types import key_of, section_fields
from batchgen.metrics.base import Unit
from batchgen.metrics.registry import METRIC_TYPES


@dataclass(frozen=True, slots=True)
class OptionDescription:
    """A key of a metric. `default` is "required" where there is none."""

    name: str
    expects: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class MetricDescription:
    """A type of metric."""

    type: str
    measures: str
    unit: Unit
    higher_is_better: bool | None
    version: int
    options: tuple[OptionDescription, ...]


def describe_metrics() -> list[MetricDescription]:
    """All types of metrics."""
    return [
        _describe(m.word, m.options, m.unit, better=m.higher_is_better, version=m.version)
        for m in METRIC_TYPES.values()
    ]


def describe_judge() -> MetricDescription:
    """`evaluate.judges`, whose scores are metrics like all others."""
    return _describe(TYPE, Judge, "score", better=True, version=VERSION)


def _describe(
    word: str, section: type[BaseModel], unit: Unit, *, better: bool | None, version: int
) -> MetricDescription:
    measures, expected = " ".join((section.__doc__ or "").split()), section_fields(section)
    keys = ((key_of(name, field), field) for name, field in section.model_fields.items())
    options = tuple(
        OptionDescription(key, str(expected[key]), default_of(field), expected[key].description)
        for key, field in keys
        if key != "type"
    )
    return MetricDescription(word, measures, unit, better, version, options)
