"""From the shared options to a loaded job."""

from batchgen.cli.options import JobOptions
from batchgen.jobfile.load import LoadedJob
from batchgen.runner.locate import load_for_run, load_limited


def load(options: JobOptions) -> LoadedJob:
    """Load the job that the command line describes.

    Raises:
        JobFileError: the job is wrong.
        UsageError: `--date` is no date.
        StateError: the output folder's state is damaged.
    """
    sets, profile, day = options.overrides, options.profile, options.date
    if options.limit is not None and options.output is None:
        return load_limited(options.job, limit=options.limit, sets=sets, profile=profile, day=day)
    return load_for_run(options.job, sets=sets, profile=profile, day=day)
