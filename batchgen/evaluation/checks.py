"""What of a job's section `evaluate` does not go with itself, or with the columns of the answers.

Each function names its problems by their keys in the job. Knows nothing of tables that hold answers.
"""

from collections.abc import Sequence

from batchgen.errors import DataError, Problem
from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.block_scores import is_group
from batchgen.evaluation.judging.prepare_judges import judge_problems
from batchgen.evaluation.resolve_evaluation import Evaluation, resolve_evaluation
from batchgen.evaluation.slices import slice_column
from batchgen.job.evaluate import Evaluate
from batchgen.metrics.told import is_model_metric
from batchgen.output.score_tables import SCORE_PREFIX

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
        evaluation = resolve_evaluation(asked)
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
    columns = [slice_column(cut) for cut in evaluation.slices]
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
        if gate.slice not in (None, OVERALL)
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
        if not is_model_metric(measure.metric):
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
        wanted[key if isinstance(cut, str) else f"{key}.column"] = slice_column(cut)
    return [
        Problem(
            key,
            f"column {name!r} is not among the columns of the answers",
            f"There are: {', '.join(columns)}.",
        )
        for key, name in wanted.items()
        if name not in columns
    ]
