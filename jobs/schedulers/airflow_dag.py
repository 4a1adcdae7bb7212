"""A DAG of Airflow 3 that runs a job every night. Copy it to the folder of DAGs, and adapt COMMAND."""

import subprocess
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

COMMAND = ["/srv/batchgen/venv/bin/batchgen", "run", "/srv/batchgen/jobs/nightly.yaml", "--quiet"]
RUN_AGAIN = 75


@dag(
    schedule="30 1 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=12),
)
def batchgen_nightly():
    """One task: the run of the night."""

    @task(retries=12, retry_delay=timedelta(minutes=10))
    def run(ds=None):
        """Run the job, or resume it: `--date` is that of the DAG run, on every try."""
        code = subprocess.run([*COMMAND, "--date", ds], check=False).returncode
        if code == RUN_AGAIN:
            raise AirflowException("stopped early: the next try resumes the run")
        if code:
            raise AirflowFailException(f"batchgen ended with exit code {code}")

    run()


batchgen_nightly()
