"""What a job's section `evaluate` comes to: metrics made, names settled, columns checked.

    asked: Evaluate (job) ──evaluation_of──> resolved: Evaluation

Knows nothing of tables that hold answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.data.scores import SCORE_PREFIX
from batchgen.errors import DataError, Problem
from batchgen.job.evaluation import Bins, Evaluate, Gate, Reasoning, metric_types
from batchgen.job.fingerprint import fingerprint
from batchgen.job.judges import Judge
from batchgen.job.metric_options import MetricOptions
from batchgen.metrics.aggregate import EVERYTHING, Confidence
from batchgen.metrics.base import Metric
from batchgen.metrics.catalog import make_metrics
from batchgen.metrics.judge import JudgeMetric, judge_metrics
from batchgen.metrics.scoring import is_group
from batchgen.metrics.told import is_model
from batchgen.runner.judgements import look_for
from batchgen.runner.judges import ReadyJudge, judge_problems
from batchgen.runner.slices import column_of


@dataclass(frozen=True, slots=True)
class Measure:
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

    measures: tuple[Measure, ...]
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
        """What files of scores say about how they were made; `recorded_metrics` reads it."""
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


def evaluation_of(asked: Evaluate, judges: Sequence[ReadyJudge] = ()) -> Evaluation:
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


def _judge_metrics(judge: Judge, ready: ReadyJudge | None) -> tuple[JudgeMetric, ...]:
    if ready is None:
        return judge_metrics(judge, lambda _: None, "")
    return judge_metrics(judge, look_for(ready), ready.signature)


def _measure(
    metric: Metric, options: MetricOptions | Judge, read: Mapping[str, object], key: str
) -> Measure:
    decides = {
        "options": options.model_dump(exclude={"name", "primary", *_SIGNED}),
        "version": metric.spec.version,
        "signature": metric.spec.signature,
        **read,
    }
    return Measure(metric, options, options.where, key, fingerprint(decides))


def recorded_metrics(facts: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics that made the scores of a file, by name, from what its metadata says."""
    sections = metric_types()
    asked = facts.get("evaluate", {}).get("metrics", ())
    options = [sections[one["type"]].model_validate(one) for one in asked]
    return {metric.spec.name: metric for one in options for metric in make_metrics(one)}


STORED = "With output.store_prompt: true a run writes it."


def evaluation_problems(
    asked: Evaluate, columns: Sequence[str], prefix: str = "", *, messages_hint: str = STORED
) -> list[Problem]:
    """What of a job's evaluation does not go with itself, or with the columns of the answers.

    Args:
        asked: the section.
        columns: those that the output will have: kept input columns and answer columns.
        prefix: `output.prefix`.
        messages_hint: how there would be a column with what was asked.
    """
    try:
        evaluation = evaluation_of(asked)
    except DataError as error:
        return [Problem("evaluate.metrics", error.message, error.hint)]
    return [
        *judge_problems(asked.judges, columns, prefix),
        *_name_problems(evaluation),
        *_clash_problems(evaluation, columns, prefix),
        *_gate_problems(evaluation),
        *_bound_problems(evaluation),
        *_column_problems(asked, evaluation, columns),
        *_model_problems(evaluation, columns, prefix, messages_hint),
    ]


def _name_problems(evaluation: Evaluation) -> list[Problem]:
    names, rows = evaluation.names, {m.name for m in evaluation.measures if not is_group(m.metric)}
    found = [
        Problem(m.key, f"two metrics are called {m.name!r}", "Give one of them a name of its own.")
        for number, m in enumerate(evaluation.measures)
        if m.name in names[:number]
    ]
    found += [
        Problem(
            m.key,
            f"reads the scores of {m.metric.of!r}, which is no metric of answers in this job",
            f"There are: {', '.join(sorted(rows)) or 'none'}.",
        )
        for m in evaluation.measures
        if is_group(m.metric) and m.metric.of is not None and m.metric.of not in rows
    ]
    return found


def _clash_problems(evaluation: Evaluation, columns: Sequence[str], prefix: str) -> list[Problem]:
    return [
        Problem(
            m.key,
            f"the input column {prefix}{SCORE_PREFIX}{m.name} has the name that its scores would have",
            "Give the metric another name.",
        )
        for m in evaluation.measures
        if f"{prefix}{SCORE_PREFIX}{m.name}" in columns
    ]


def _gate_problems(evaluation: Evaluation) -> list[Problem]:
    columns = [column_of(cut) for cut in evaluation.slices]
    return [
        Problem(
            f"evaluate.gates[{number}].metric",
            f"there is no metric called {gate.metric!r}",
            f"There are: {', '.join(evaluation.names)}.",
        )
        for number, gate in enumerate(evaluation.gates)
        if gate.metric not in evaluation.names
    ] + [
        Problem(
            f"evaluate.gates[{number}].slice",
            f"no way of slicing gives {gate.slice!r}",
            f"Slices are named such as {columns[0]}=VALUE; evaluate.slices has: {', '.join(columns)}."
            if columns
            else "evaluate.slices names none.",
        )
        for number, gate in enumerate(evaluation.gates)
        if gate.slice not in (None, EVERYTHING)
        and not any(str(gate.slice).startswith(f"{column}=") for column in columns)
    ]


def _bound_problems(evaluation: Evaluation) -> list[Problem]:
    """Bounds of gates on a fraction that every value, or none, meets."""
    fractions = {m.name for m in evaluation.measures if m.metric.spec.unit == "fraction"}
    bounds = [
        (f"evaluate.gates[{number}].{key}", gate.metric, bound)
        for number, gate in enumerate(evaluation.gates)
        for key in ("min", "max", "max_drop")
        if gate.metric in fractions and (bound := getattr(gate, key)) is not None
    ]
    return [
        Problem(
            key,
            f"{bound:g} is out of range: {metric} is a fraction, from 0 to 1",
            f"Is {bound:g} % meant? Write {bound / 100:g}."
            if 1 < bound <= 100
            else "Write a number from 0 to 1.",
        )
        for key, metric, bound in bounds
        if not 0 <= bound <= 1
    ]


def _model_problems(
    evaluation: Evaluation, columns: Sequence[str], prefix: str, messages_hint: str
) -> list[Problem]:
    """What metrics lack that ask a model about the row's prompt."""
    found: list[Problem] = []
    for measure in evaluation.measures:
        if not is_model(measure.metric):
            continue
        if f"{prefix}messages" not in columns:
            found.append(
                Problem(
                    measure.key,
                    f"asks a model what follows the row's prompt, but there is no column {prefix}messages that has it",
                    messages_hint,
                )
            )
        found += [
            Problem(
                f"{measure.key}.{key}",
                f"column {name!r} is not among the columns of the answers",
                f"There are: {', '.join(columns)}.",
            )
            for key in ("column", "options")
            if (name := getattr(measure.options, key, None)) is not None and name not in columns
        ]
    return found


def _column_problems(
    asked: Evaluate, evaluation: Evaluation, columns: Sequence[str]
) -> list[Problem]:
    one = isinstance(asked.reference, str)
    wanted = {
        f"evaluate.reference{'' if one else f'[{number}]'}": name
        for number, name in enumerate(evaluation.references)
    }
    if evaluation.cluster is not None:
        wanted["evaluate.cluster"] = evaluation.cluster
    for number, cut in enumerate(evaluation.slices):
        key = f"evaluate.slices[{number}]"
        wanted[key if isinstance(cut, str) else f"{key}.column"] = column_of(cut)
    return [
        Problem(
            key,
            f"column {name!r} is not among the columns of the answers",
            f"There are: {', '.join(columns)}.",
        )
        for key, name in wanted.items()
        if name not in columns
    ]
