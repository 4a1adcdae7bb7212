"""The input, found and checked against the job, before anything heavy is imported: what `validate` does.

Knows nothing of models.
"""

from dataclasses import dataclass

from batchgen.data.schema import Layout, lay_out, misfits
from batchgen.data.sources import Source, open_source
from batchgen.errors import Problem
from batchgen.job.load import LoadedJob
from batchgen.prompts.render import PromptRenderer, check_prompts


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
    source = open_source(job.input, seed=job.run.seed)
    problems = check_prompts(job, source.columns)
    problems += [
        Problem(m.key, m.message, m.hint)
        for m in misfits(source.columns, job.input, job.output, source.id_column)
    ]
    if problems:
        raise loaded.error(problems)
    renderer = PromptRenderer(job)
    columns = dict.fromkeys([*renderer.columns, *job.decoding.columns.values()])
    layout = lay_out(source.columns, job.input, job.output, source.id_column)
    return Reading(source, layout, tuple(columns))
