"""A job's section `evaluate`, resolved: metrics created, names settled.

Resolved once for all checks and passes, since it executes a user's module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from batchgen.errors import DataError, Problem
from batchgen.evaluation.judging.prepare_judges import PreparedJudge
from batchgen.evaluation.judging.scores import judge_metrics
from batchgen.evaluation.judging.verdicts import verdict_reader
from batchgen.fingerprint import fingerprint
from batchgen.job.evaluate import Evaluate
from batchgen.job.judge import Judge
from batchgen.jobfile.renamed_keys import metric_with_current_names, metric_with_names_of_0_1
from batchgen.metrics.base import Metric, MetricOptions
from batchgen.metrics.registry import METRIC_TYPES, make_metrics
from batchgen.metrics.statistics.intervals import Confidence
from batchgen.metrics.user_function import one_execution_per_file


@dataclass(frozen=True, slots=True)
class JobMetric:
    """A metric of a job.

    Attributes:
        where: SQL condition over the columns: only these rows are scored; None for every row.
        fingerprint: of everything but the answers that decides its numbers.
    """

    metric: Metric
    options: MetricOptions | Judge
    where: str | None
    key: str
    fingerprint: str

    @property
    def name(self) -> str:
        return self.metric.spec.name

    @property
    def field(self) -> str | None:
        """The path of what is scored in place of the response, if the metric has one."""
        return self.options.field if isinstance(self.options, MetricOptions) else None

    @property
    def primary(self) -> bool:
        """Whether `compare` counts it as primary; of a judge's metrics, only the main one can be."""
        main = not isinstance(self.options, Judge) or self.name == self.options.name
        return self.options.primary and main


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How answers are scored. `judges` is empty until `with_judges`."""

    section: Evaluate
    measures: tuple[JobMetric, ...]
    references: tuple[str, ...]
    confidence: Confidence
    judges: tuple[PreparedJudge, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides scores and aggregates: where it differs, answers are scored again."""
        confidence = self.confidence
        return fingerprint(
            {
                "measures": {measure.name: measure.fingerprint for measure in self.measures},
                "primary": [measure.name for measure in self.measures if measure.primary],
                "slices": self._cuts,
                "cluster": self.section.cluster,
                "confidence": [confidence.level, confidence.replicates, confidence.seed],
            }
        )

    @property
    def record(self) -> dict[str, Any]:
        """The metadata in files of scores; `read_recorded_metrics` reads it."""
        options = {measure.key: measure.options for measure in self.measures}
        metrics = [one for one in options.values() if isinstance(one, MetricOptions)]
        return {
            "metrics": [one.model_dump(mode="json", by_alias=True) for one in metrics],
            "cluster": self.section.cluster,
            "slices": self._cuts,
            "references": list(self.references),
            "reasoning": self.section.reasoning,
            "judges": {
                one.judge.name: one.judge.model_dump(mode="json", exclude={"name", *_SIGNED})
                for one in self.judges
            },
            "signatures": {m.name: _signature(m.metric) for m in self.measures},
        }

    @property
    def _cuts(self) -> list[Any]:
        return [
            cut if isinstance(cut, str) else cut.model_dump(mode="json")
            for cut in self.section.slices
        ]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(measure.name for measure in self.measures)

    def with_judges(self, judges: Sequence[PreparedJudge]) -> "Evaluation":
        """The same with its judges ready to score: all that the section names, in any order."""
        prepared = {one.judge.name: one for one in judges}
        own = (m for m in self.measures if not isinstance(m.options, Judge))
        measures = (*own, *_judge_measures(self.section, prepared))
        return replace(self, measures=measures, judges=tuple(judges))


def resolve_evaluation(section: Evaluate) -> tuple[Evaluation, list[Problem]]:
    """Create the metrics of a section; its judges cannot score yet. A problem for each entry that cannot be created.

    Loads files that metrics name, such as a schema, and executes each of a user's modules once.
    """
    measures: list[JobMetric] = []
    problems: list[Problem] = []
    with one_execution_per_file():
        for number, options in enumerate(section.metrics):
            key = f"evaluate.metrics[{number}]"
            try:
                measures += [_measure(m, options, section, key) for m in make_metrics(options)]
            except DataError as error:
                problems.append(Problem(key, error.message, error.hint))
    evaluation = Evaluation(
        section=section,
        measures=(*measures, *_judge_measures(section, {})),
        references=_references(section),
        confidence=Confidence(section.ci.level, section.ci.bootstrap, section.ci.seed),
    )
    return evaluation, problems


_PATHS = ("file", "schema_")
"""Paths of a metric's files: its signature covers their content, so that a moved project keeps its scores."""
_SIGNED = ("model", "rubric", "rubric_file", "baseline")
"""Replaced by a judge's signature, which covers the content of these files instead of their paths."""


def _signature(metric: Metric) -> str:
    signature = metric.spec.signature
    return f"version {metric.spec.version}{f', {signature}' if signature else ''}"


def _references(section: Evaluate) -> tuple[str, ...]:
    reference = section.reference
    return (reference,) if isinstance(reference, str) else reference or ()


def _judge_measures(section: Evaluate, prepared: Mapping[str, PreparedJudge]) -> list[JobMetric]:
    measures: list[JobMetric] = []
    for number, judge in enumerate(section.judges):
        one, key = prepared.get(judge.name), f"evaluate.judges[{number}]"
        read = verdict_reader(one) if one else lambda _: None
        metrics = judge_metrics(judge, read, one.signature if one else "")
        measures += [_measure(metric, judge, section, key) for metric in metrics]
    return measures


def _measure(
    metric: Metric, options: MetricOptions | Judge, section: Evaluate, key: str
) -> JobMetric:
    given = options.model_dump(exclude={"name", "primary", *_SIGNED})
    for added in ("range", "field"):  # in 0.3: without them, scores have the fingerprint of 0.2
        if given.get(added, 0) is None:
            del given[added]
    given |= {name: "" for name in _PATHS if given.get(name) is not None}
    decides = {
        "options": metric_with_names_of_0_1(given) if isinstance(options, MetricOptions) else given,
        "version": metric.spec.version,
        "signature": metric.spec.signature,
        "references": _references(section),
        "reasoning": section.reasoning,
    }
    return JobMetric(metric, options, options.where, key, fingerprint(decides))


def read_recorded_metrics(facts: Mapping[str, Any], *, of: str | None = None) -> dict[str, Metric]:
    """The metrics of a file of scores, by name, from its metadata: of one type, or all without those of a user's module.

    A comparison needs the formula of corpus metrics only, and must not execute code.
    """
    recorded = map(metric_with_current_names, facts.get("evaluate", {}).get("metrics", ()))
    options = [
        METRIC_TYPES[one["type"]].options.model_validate(one)
        for one in recorded
        if one["type"] != "python" and of in (None, one["type"])
    ]
    return {metric.spec.name: metric for one in options for metric in make_metrics(one)}
