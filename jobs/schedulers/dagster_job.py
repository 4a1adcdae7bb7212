"""A job of Dagster that runs a batchgen job every night. Load it with `dagster dev -f dagster_job.py`, and adapt COMMAND."""

import subprocess

from dagster import (
    Definitions,
    Failure,
    OpExecutionContext,
    RetryRequested,
    ScheduleDefinition,
    job,
    op,
)

COMMAND = ["/srv/batchgen/venv/bin/batchgen", "run", "/srv/batchgen/jobs/nightly.yaml", "--quiet"]
RUN_AGAIN = 75


@op
def run(context: OpExecutionContext) -> None:
    """Run the job, or resume it."""
    code = subprocess.run(COMMAND, check=False).returncode
    if code == RUN_AGAIN:
        raise RetryRequested(max_retries=12, seconds_to_wait=600)
    if code:
        raise Failure(f"batchgen ended with exit code {code}", allow_retries=False)
    context.log.info("the run is complete")


@job
def batchgen_nightly() -> None:
    """One run of the job."""
    run()


defs = Definitions(
    jobs=[batchgen_nightly],
    schedules=[ScheduleDefinition(job=batchgen_nightly, cron_schedule="30 1 * * *")],
)
