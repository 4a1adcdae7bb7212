"""What a job's section `evaluate` comes to: metrics made, names settled.

    asked: Evaluate (job) ──evaluation_of──> resolved: Evaluation

Knows nothing of tables that hold answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.evaluation.judging.prepare_judges import PreparedJudge
from batchgen.evaluation.judging.scores import JudgeMetric, judge_metrics
from batchgen.evaluation.judging.verdicts import verdict_reader
from batchgen.fingerprint import fingerprint
from batchgen.job.evaluate import Bins, Evaluate, Gate, Reasoning, metric_types
from batchgen.job.judge import Judge
from batchgen.job.metric_options import MetricOptions
from batchgen.metrics.base import Metric
from batchgen.metrics.catalog import make_metrics
from batchgen.metrics.statistics.intervals import Confidence


@dataclass(frozen=True, slots=True)
class JobMetric:
    """A metric of a job.

    Attributes:
        where: SQL condition over the columns: only these rows are asked for; None for every row.
        key: where the job says so, for messages.
        options: what the job says about it.
        fingerprint: of everything that decides its numbers beside the answers.
    """

    metric: Metric
    options: MetricOptions | Judge
    where: str | None
    key: str
    fingerprint: str

    @property
    def name(self) -> str:
        """Its name in the job."""
        return self.metric.spec.name

    @property
    def primary(self) -> bool:
        """Whether a comparison decides by it; of a judge's numbers, only the main one does."""
        main = not isinstance(self.options, Judge) or self.name == self.options.name
        return self.options.primary and main


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How answers are scored, with nothing left open.

    Attributes:
        reasoning: whether text between think marks is scored.
    """

    measures: tuple[JobMetric, ...]
    references: tuple[str, ...]
    reasoning: Reasoning
    cluster: str | None
    slices: tuple[str | Bins, ...]
    confidence: Confidence
    gates: tuple[Gate, ...]

    @property
    def fingerprint(self) -> str:
        """Of everything that decides scores and aggregates: where it differs, answers are scored again."""
        return fingerprint(
            {
                "measures": {measure.name: measure.fingerprint for measure in self.measures},
                "primary": [measure.name for measure in self.measures if measure.primary],
                "slices": self._cuts,
                "cluster": self.cluster,
                "confidence": [
                    self.confidence.level,
                    self.confidence.replicates,
                    self.confidence.seed,
                ],
            }
        )

    @property
    def record(self) -> dict[str, Any]:
        """What files of scores say about how they were made; `read_recorded_metrics` reads it."""
        options = {measure.key: measure.options for measure in self.measures}
        metrics = [one for one in options.values() if isinstance(one, MetricOptions)]
        return {
            "metrics": [one.model_dump(mode="json", by_alias=True) for one in metrics],
            "cluster": self.cluster,
            "slices": self._cuts,
        }

    @property
    def _cuts(self) -> list[Any]:
        return [cut if isinstance(cut, str) else cut.model_dump(mode="json") for cut in self.slices]

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics' names."""
        return tuple(measure.name for measure in self.measures)


def resolve_evaluation(asked: Evaluate, judges: Sequence[PreparedJudge] = ()) -> Evaluation:
    """Make the metrics that a job asks for.

    Args:
        asked: the section.
        judges: the same that the section names, ready; without them, nothing can be scored by these yet.

    Raises:
        DataError: a metric needs a file or a package that is not there.
    """
    references = (asked.reference,) if isinstance(asked.reference, str) else asked.reference or ()
    read = {"references": references, "reasoning": asked.reasoning}
    measures = [
        _measure(metric, options, read, f"evaluate.metrics[{number}]")
        for number, options in enumerate(asked.metrics)
        for metric in make_metrics(options)
    ]
    ready = {one.judge.name: one for one in judges}
    measures += [
        _measure(metric, judge, read, f"evaluate.judges[{number}]")
        for number, judge in enumerate(asked.judges)
        for metric in _judge_metrics(judge, ready.get(judge.name))
    ]
    return Evaluation(
        measures=tuple(measures),
        references=references,
        reasoning=asked.reasoning,
        cluster=asked.cluster,
        slices=asked.slices,
        confidence=Confidence(asked.ci.level, asked.ci.bootstrap, asked.ci.seed),
        gates=asked.gates,
    )


_SIGNED = ("model", "rubric", "rubric_file", "against")
"""What a judge's signature speaks for: not where these are, but what lies there."""


def _judge_metrics(judge: Judge, ready: PreparedJudge | None) -> tuple[JudgeMetric, ...]:
    if ready is None:
        return judge_metrics(judge, lambda _: None, "")
    return judge_metrics(judge, verdict_reader(ready), ready.signature)


def _measure(
    metric: Metric, options: MetricOptions | Judge, read: Mapping[str, object], key: str
) -> JobMetric:
    decides = {
        "options": options.model_dump(exclude={"name", "primary", *_SIGNED}),
        "version": metric.spec.version,
        "signature": metric.spec.signature,
        **read,
    }
    return JobMetric(metric, options, options.where, key, fingerprint(decides))


def read_recorded_metrics(facts: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics that made the scores of a file, by name, from what its metadata says."""
    sections = metric_types()
    asked = facts.get("evaluate", {}).get("metrics", ())
    options = [sections[one["type"]].model_validate(one) for one in asked]
    return {metric.spec.name: metric for one in options for metric in make_metrics(one)}
