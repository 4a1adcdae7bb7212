"""The input, found and checked against the job, before anything heavy is imported: what `validate` does.

Knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from batchgen.decoding.generation_kwargs import check_generation_kwargs
from batchgen.errors import JobKeyError, Problem
from batchgen.evaluation.checks import evaluation_problems
from batchgen.evaluation.metric_queries import prefill_problems
from batchgen.input.sources import Source, open_source
from batchgen.jobfile.load import LoadedJob
from batchgen.output.schema import Layout, lay_out, misfits
from batchgen.prompts.render import PromptRenderer, check_prompts
from batchgen.run import redaction


@dataclass(frozen=True, slots=True)
class Reading:
    """The input, found and checked against the job, but not read yet."""

    source: Source
    layout: Layout
    columns: tuple[str, ...]


def read_input(loaded: LoadedJob) -> Reading:
    """Open the input and check every column that the job names. Reads only the heads of files.

    Raises:
        DataError: the input cannot be read.
        JobFileError: the job names columns that are not there; all at once.
    """
    job = loaded.job
    try:
        source = open_source(job.input, seed=job.run.seed, redaction=redaction.of_cells(job.redact))
    except JobKeyError as error:
        raise loaded.error([error.problem]) from error
    problems = check_prompts(job, source.columns)
    problems += check_generation_kwargs(job.decoding)
    problems += _misfits(loaded, source, source.columns)
    layout = lay_out(source.columns, job.input, job.output, source.id_column)
    prefix = job.output.prefix
    stored = [n for n in layout.names if job.output.store_prompt or n != f"{prefix}messages"]
    problems += evaluation_problems(job.evaluate, stored, prefix)
    if not problems:
        problems += prefill_problems(job, stored)
    if problems:
        raise loaded.error(problems)
    renderer = PromptRenderer(job)
    columns = dict.fromkeys([*renderer.columns, *job.decoding.columns.values()])
    return Reading(source, layout, tuple(columns))


def with_all_columns(loaded: LoadedJob, reading: Reading, schema: pa.Schema) -> Reading:
    """The reading with the columns that the survey found: JSONL may bring new ones in its last line.

    Raises:
        JobFileError: a column that came late has a name that batchgen writes; or one is to be redacted and holds no text.
    """
    source, job, columns = reading.source, loaded.job, schema.names
    problems = _misfits(loaded, source, columns) or redaction.problems(job.redact, schema)
    if problems:
        raise loaded.error(problems)
    return replace(reading, layout=lay_out(columns, job.input, job.output, source.id_column))


def _misfits(loaded: LoadedJob, source: Source, columns: Sequence[str]) -> list[Problem]:
    job = loaded.job
    found = misfits(columns, job.input, job.output, source.id_column)
    unknown = [
        name for name in (job.redact.columns or () if job.redact else ()) if name not in columns
    ]
    return [
        *(Problem(m.key, m.message, m.hint) for m in found),
        *(
            Problem(
                "redact.columns",
                f"column {name!r} is not in the input",
                f"The input has: {', '.join(columns)}",
            )
            for name in unknown
        ),
    ]
