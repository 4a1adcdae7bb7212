"""Open the input and check it against the job, without loading weights: what `validate` does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from batchgen.arrow.nested_column import split_path
from batchgen.decoding.generation_kwargs import check_generation_kwargs
from batchgen.engines.capability_check import engine_problems
from batchgen.errors import DataError, JobKeyError, Problem
from batchgen.evaluation.checks import reference_warnings, resolve_and_check
from batchgen.evaluation.metric_queries import prefill_problems
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.input.sources import InputSource, open_source
from batchgen.input.turns.turn_rows import TurnRows
from batchgen.job.spec import Job
from batchgen.jobfile.job_paths import real_path
from batchgen.jobfile.load import LoadedJob
from batchgen.output.job_columns import added_columns, choice_problems, parse_problems
from batchgen.output.schema import (
    OutputLayout,
    column_conflicts,
    output_layout,
)
from batchgen.prompts.placeholder_check import prompt_warnings
from batchgen.prompts.render import PromptRenderer, check_prompts
from batchgen.run import redaction
from batchgen.structured.format_problems import format_problems, format_warnings


@dataclass(frozen=True, slots=True)
class CheckedInput:
    """The input, checked against the job, but not read yet.

    Attributes:
        warnings: what is allowed and is rarely meant, each with its place in the job file.
    """

    source: InputSource
    layout: OutputLayout
    columns: tuple[str, ...]
    evaluation: Evaluation
    warnings: tuple[str, ...] = ()


def check_input(loaded: LoadedJob) -> CheckedInput:
    """Open the input and check every column that the job names. Reads only the start of each file.

    Raises:
        DataError: the input cannot be read.
        JobFileError: the job names columns that the input does not have; all at once.
    """
    job = loaded.job
    problems = [*engine_problems(job), *check_generation_kwargs(job.decoding)]
    try:
        cells = redaction.cell_redaction(job.redact)
        source = open_source(job.input, seed=job.run.seed, redaction=cells, turns=TurnRows.of(job))
    except JobKeyError as error:
        raise loaded.error([*problems, error.problem]) from error
    except DataError as error:
        if not problems:
            raise
        # The input must not hide them.
        unreadable = Problem("input.path", error.message, error.hint)
        raise loaded.error([*problems, unreadable]) from error
    problems += [*format_problems(job, source.columns), *parse_problems(job)]
    problems += _inside_output(source, Path(job.output.path))
    problems += check_prompts(job, source.columns)
    problems += _input_problems(job, source, source.columns)
    layout = job_layout(job, source, source.columns)
    prefix = job.output.prefix
    stored = [n for n in layout.paths if job.output.store_prompt or n != f"{prefix}messages"]
    evaluation, found = resolve_and_check(job.evaluate, stored, prefix)
    problems += [*found, *choice_problems(job, stored)]
    if not problems:
        problems += prefill_problems(job, evaluation, stored)
    if problems:
        raise loaded.error(problems)
    columns = _columns_read(job, source)
    found_warnings = [
        *prompt_warnings(job, source.columns),
        *format_warnings(job),
        *reference_warnings(evaluation),
    ]
    warnings = loaded.describe(found_warnings)
    return CheckedInput(source, layout, tuple(columns), evaluation, warnings)


def _columns_read(job: Job, source: InputSource) -> dict[str, None]:
    """The input columns that prompts and decoding settings read."""
    renderer = PromptRenderer(job)
    named = [name for name in renderer.functions if name in source.columns]
    read = (split_path(path, source.columns)[0] for path in renderer.columns)
    form = job.decoding.response_format
    cells = [*job.decoding.columns.values(), *(form.columns.values() if form else ())]
    return dict.fromkeys([*read, *named, *cells])


def add_survey_columns(loaded: LoadedJob, checked: CheckedInput, schema: pa.Schema) -> CheckedInput:
    """Add the columns that the survey found: the last line of a JSONL file may have new ones.

    Raises:
        JobFileError: a new column has a name that batchgen writes, or a column to be redacted does not contain text.
    """
    source, job, columns = checked.source, loaded.job, schema.names
    problems = _input_problems(job, source, columns)
    if problems := problems or redaction.redaction_problems(job.redact, schema):
        raise loaded.error(problems)
    return replace(checked, layout=job_layout(job, source, columns))


def job_layout(job: Job, source: InputSource, columns: Sequence[str]) -> OutputLayout:
    """The columns of the output, given those of the input."""
    added = added_columns(job)
    return output_layout(columns, job.input, job.output, source.id_column, added=added)


def _inside_output(source: InputSource, output: Path) -> list[Problem]:
    """The problem of input files in the output folder: the run would read its own answers."""
    for file in source.files:
        if real_path(file.path).is_relative_to(real_path(output)):
            message = f"the output folder {output} contains the input {file.path}"
            hint = "Write to another folder, or narrow input.path."
            return [Problem("output.path", message, hint)]
    return []


def _input_problems(job: Job, source: InputSource, columns: Sequence[str]) -> list[Problem]:
    redacted = (job.redact.columns or ()) if job.redact else ()
    hint = f"Use one of the input's columns: {', '.join(columns)}."
    return [
        *column_conflicts(
            columns, job.input, job.output, source.id_column, added=added_columns(job)
        ),
        *(
            Problem("redact.columns", f"column {name!r} is not in the input", hint)
            for name in redacted
            if name not in columns
        ),
    ]
