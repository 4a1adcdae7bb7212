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
        MetricDescription(
            word,
            _measures(metric.options),
            metric.unit,
            metric.higher_is_better,
            metric.version,
            _describe_options(metric.options),
        )
        for word, metric in METRIC_TYPES.items()
    ]


def describe_judge() -> MetricDescription:
    """`evaluate.judges`, whose scores are metrics like all others."""
    return MetricDescription(
        TYPE, _measures(Judge), "score", True, VERSION, _describe_options(Judge)
    )


def _measures(section: type[BaseModel]) -> str:
    return " ".join((section.__doc__ or "").split())


def _describe_options(section: type[BaseModel]) -> tuple[OptionDescription, ...]:
    expected = section_fields(section)
    keys = ((key_of(name, field), field) for name, field in section.model_fields.items())
    return tuple(
        OptionDescription(key, str(expected[key]), default_of(field), expected[key].description)
        for key, field in keys
        if key != "type"
    )
