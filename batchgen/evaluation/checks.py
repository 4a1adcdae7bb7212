"""Checks of a job's section `evaluate`: against itself, and against the columns of the answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from batchgen.errors import DataError, Problem
from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.block_scores import is_group
from batchgen.evaluation.gating.previous_run import PREVIOUS
from batchgen.evaluation.judging.prepare_judges import read_rubric
from batchgen.evaluation.resolve_evaluation import Evaluation, resolve_evaluation
from batchgen.evaluation.slices import slice_column
from batchgen.job.evaluate import Evaluate, Gate
from batchgen.job.judge import Judge
from batchgen.metrics.likelihood_columns import is_model_metric
from batchgen.output.parsed_column import PARSED
from batchgen.output.schema import folded_name
from batchgen.output.score_tables import SCORE_PREFIX
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists

STORED = "Set output.store_prompt: true, so that the run writes it."


def resolve_and_check(
    section: Evaluate, columns: Sequence[str], prefix: str = "", *, messages_hint: str = STORED
) -> tuple[Evaluation, list[Problem]]:
    """Resolve a section and check it. Where there are problems, the evaluation must not be used.

    `columns` are those of the output and the paths of their fields, `messages_hint` is how to get the column with the prompts.
    """
    evaluation, missing = resolve_evaluation(section)
    return evaluation, [
        *missing,
        *_judge_problems(section.judges, columns, prefix),
        *([] if missing else _name_problems(evaluation, columns, prefix)),
        *([] if missing else _gate_problems(evaluation)),
        *_column_problems(evaluation, columns),
        *_model_problems(evaluation, columns, prefix, messages_hint),
    ]


def _name_problems(evaluation: Evaluation, columns: Sequence[str], prefix: str) -> list[Problem]:
    names, rows = evaluation.names, {m.name for m in evaluation.measures if not is_group(m.metric)}
    problems = []
    taken = {folded_name(column): column for column in columns}
    for number, m in enumerate(evaluation.measures):
        twin = next((n for n in names[:number] if folded_name(n) == folded_name(m.name)), None)
        if twin is not None:
            message = f"two metrics are called {m.name!r}"
            if twin != m.name:
                message = f"the metrics {twin!r} and {m.name!r} differ by upper and lower case only"
            problems.append(Problem(m.key, message, "Give one of them another name."))
        if is_group(m.metric) and m.metric.of is not None and m.metric.of not in rows:
            message = f"{m.name} reads the scores of {m.metric.of!r}, which is not a metric of single answers in this job"
            problems.append(
                Problem(m.key, message, f"There are: {', '.join(sorted(rows)) or 'none'}.")
            )
        if column := taken.get(folded_name(f"{prefix}{SCORE_PREFIX}{m.name}")):
            message = f"the scores of {m.name!r} would have the name of the input column {column}"
            problems.append(Problem(m.key, message, "Give the metric another name."))
    return problems


def _gate_problems(evaluation: Evaluation) -> list[Problem]:
    columns = [slice_column(cut) for cut in evaluation.section.slices]
    fractions = {m.name for m in evaluation.measures if m.metric.spec.unit == "fraction"}
    problems: list[Problem] = []
    for number, gate in enumerate(evaluation.section.gates):
        key = f"evaluate.gates[{number}]"
        if gate.drift is not None:
            problems += _drift_problems(gate, key)
            continue
        if gate.metric not in evaluation.names:
            hint = f"There are: {', '.join(evaluation.names)}."
            message = f"the job has no metric called {gate.metric!r}"
            problems.append(Problem(f"{key}.metric", message, hint))
        problems += _agreement_problems(gate, key, evaluation)
        sliced = any(str(gate.slice).startswith(f"{column}=") for column in columns)
        if gate.slice not in (None, OVERALL) and not sliced:
            hint = "Add its column to evaluate.slices."
            if columns:
                example = f"Write a slice as {columns[0]}=VALUE"
                hint = f"{example}; the columns are: {', '.join(columns)}."
            message = f"evaluate.slices does not define the slice {gate.slice!r}"
            problems.append(Problem(f"{key}.slice", message, hint))
        for limit in ("min", "max", "max_drop") if gate.metric in fractions else ():
            bound = getattr(gate, limit)
            if bound is not None and not 0 <= bound <= 1:
                percent = f"For {bound:g} %, write {bound / 100:g}."
                hint = percent if 1 < bound <= 100 else "Write a number from 0 to 1."
                message = f"{bound:g} is out of range: {gate.metric} is a fraction from 0 to 1"
                problems.append(Problem(f"{key}.{limit}", message, hint))
    return problems


def _agreement_problems(gate: Gate, key: str, evaluation: Evaluation) -> list[Problem]:
    if gate.min_agreement is None or gate.agreement_with in evaluation.names:
        return []
    if gate.agreement_run is not None:
        return []
    message = f"min_agreement needs the votes of people, and the job has no metric called {gate.agreement_with!r}"
    hint = "Add human to evaluate.metrics, or name a run with votes as agreement_run."
    return [Problem(f"{key}.min_agreement", message, hint)]


def _drift_problems(gate: Gate, key: str) -> list[Problem]:
    baseline = str(gate.baseline)
    if baseline == PREVIOUS or exists(RunFolder(Path(baseline)).manifest):
        return []
    return [_no_complete_run(f"{key}.baseline", baseline)]


def reference_warnings(evaluation: Evaluation) -> Iterator[Problem]:
    """Metrics that score no answer, since the job names no reference."""
    if evaluation.references:
        return
    for key in dict.fromkeys(
        m.key for m in evaluation.measures if m.metric.spec.needs == "references"
    ):
        message = (
            "needs a reference, and evaluate.reference is not set: no answer will have a score"
        )
        yield Problem(key, message, "Set evaluate.reference to the column with the correct answer.")


def _no_complete_run(key: str, path: str) -> Problem:
    message = f"{path} is not the output folder of a complete run"
    return Problem(key, message, "Give the output folder of a run that has ended.")


def _model_problems(
    evaluation: Evaluation, columns: Sequence[str], prefix: str, messages_hint: str
) -> list[Problem]:
    """Columns that are missing for metrics that query a model about the row's prompt."""
    problems: list[Problem] = []
    for measure in evaluation.measures:
        if not is_model_metric(measure.metric):
            continue
        if f"{prefix}messages" not in columns:
            message = f"{measure.name} needs the row's prompt, but the column `{prefix}messages` is missing"
            problems.append(Problem(measure.key, message, messages_hint))
        if measure.field is not None:
            message = f"has no effect: {measure.name} does not score the response"
            problems.append(Problem(f"{measure.key}.field", message, "Remove it."))
        problems += [
            _missing_column(f"{measure.key}.{key}", name, columns)
            for key in ("column", "options")
            if (name := getattr(measure.options, key, None)) is not None and name not in columns
        ]
    return problems


def _missing_column(key: str, name: str, columns: Sequence[str]) -> Problem:
    message = f"column {name!r} is not among the columns of the answers"
    hint = f"There are: {', '.join(columns)}."
    if name.startswith(f"{PARSED}.") and PARSED not in columns:
        hint = f"Set output.parse: true, which writes the column {PARSED}."
    return Problem(key, message, hint)


def _column_problems(evaluation: Evaluation, columns: Sequence[str]) -> list[Problem]:
    one = isinstance(evaluation.section.reference, str)
    wanted = {
        f"evaluate.reference{'' if one else f'[{number}]'}": name
        for number, name in enumerate(evaluation.references)
    }
    if evaluation.section.cluster is not None:
        wanted["evaluate.cluster"] = evaluation.section.cluster
    for number, cut in enumerate(evaluation.section.slices):
        key = f"evaluate.slices[{number}]"
        wanted[key if isinstance(cut, str) else f"{key}.column"] = slice_column(cut)
    for measure in evaluation.measures:
        for name in ("field", "probabilities"):
            if (column := getattr(measure.options, name, None)) is not None:
                wanted[f"{measure.key}.{name}"] = column
    return [_missing_column(k, name, columns) for k, name in wanted.items() if name not in columns]


def _judge_problems(judges: Sequence[Judge], columns: Sequence[str], prefix: str) -> list[Problem]:
    problems: list[Problem] = []
    if judges and f"{prefix}messages" not in columns:
        message = f"judges need the row's prompt, but the column `{prefix}messages` is missing"
        problems.append(Problem("evaluate.judges", message, STORED))
    for number, judge in enumerate(judges):
        key = f"evaluate.judges[{number}]"
        try:
            read_rubric(judge)
        except DataError as error:
            problems.append(Problem(f"{key}.rubric_file", error.message, error.hint))
        if judge.baseline is not None and not exists(RunFolder(Path(judge.baseline)).manifest):
            problems.append(_no_complete_run(f"{key}.baseline", judge.baseline))
        if judge.column is not None and judge.column not in columns:
            problems.append(_missing_column(f"{key}.column", judge.column, columns))
    return problems
