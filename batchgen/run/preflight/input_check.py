"""Open the input and check it against the job, without loading weights: what `validate` does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from batchgen.decoding.generation_kwargs import check_generation_kwargs
from batchgen.engines.capability_check import engine_problems
from batchgen.errors import JobKeyError, Problem
from batchgen.evaluation.checks import resolve_and_check
from batchgen.evaluation.metric_queries import prefill_problems
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.input.sources import InputSource, open_source
from batchgen.job.spec import Job
from batchgen.jobfile.job_paths import real_path
from batchgen.jobfile.load import LoadedJob
from batchgen.output.schema import OutputLayout, column_conflicts, output_layout
from batchgen.prompts.render import PromptRenderer, check_prompts
from batchgen.run import redaction


@dataclass(frozen=True, slots=True)
class CheckedInput:
    """The input, checked against the job, but not read yet."""

    source: InputSource
    layout: OutputLayout
    columns: tuple[str, ...]
    evaluation: Evaluation


def check_input(loaded: LoadedJob) -> CheckedInput:
    """Open the input and check every column that the job names. Reads only the start of each file.

    Raises:
        DataError: the input cannot be read.
        JobFileError: the job names columns that the input does not have; all at once.
    """
    job = loaded.job
    try:
        cells = redaction.cell_redaction(job.redact)
        source = open_source(job.input, seed=job.run.seed, redaction=cells)
    except JobKeyError as error:
        raise loaded.error([error.problem]) from error
    problems = engine_problems(job)
    problems += _inside_output(source, Path(job.output.path))
    problems += check_prompts(job, source.columns)
    problems += check_generation_kwargs(job.decoding)
    problems += _input_problems(job, source, source.columns)
    layout = output_layout(source.columns, job.input, job.output, source.id_column)
    prefix = job.output.prefix
    stored = [n for n in layout.names if job.output.store_prompt or n != f"{prefix}messages"]
    evaluation, found = resolve_and_check(job.evaluate, stored, prefix)
    problems += found
    if not problems:
        problems += prefill_problems(job, evaluation, stored)
    if problems:
        raise loaded.error(problems)
    renderer = PromptRenderer(job)
    columns = dict.fromkeys([*renderer.columns, *job.decoding.columns.values()])
    return CheckedInput(source, layout, tuple(columns), evaluation)


def add_survey_columns(loaded: LoadedJob, checked: CheckedInput, schema: pa.Schema) -> CheckedInput:
    """Add the columns that the survey found: the last line of a JSONL file may have new ones.

    Raises:
        JobFileError: a new column has a name that batchgen writes, or a column to be redacted does not contain text.
    """
    source, job, columns = checked.source, loaded.job, schema.names
    problems = _input_problems(job, source, columns)
    if problems := problems or redaction.redaction_problems(job.redact, schema):
        raise loaded.error(problems)
    return replace(checked, layout=output_layout(columns, job.input, job.output, source.id_column))


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
        *column_conflicts(columns, job.input, job.output, source.id_column),
        *(
            Problem("redact.columns", f"column {name!r} is not in the input", hint)
            for name in redacted
            if name not in columns
        ),
    ]
