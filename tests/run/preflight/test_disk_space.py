"""The estimate of disk space is a lower bound that holds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.jobfile.load import load_job
from batchgen.run.preflight.disk_space import COPIES, LEAST_BYTES_OF_STATE, least_bytes
from batchgen.run.run import run

MakeJob = Callable[..., Path]
ROWS = 2000


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_a_run_never_takes_less_than_the_estimate(make_job: MakeJob, compression: str) -> None:
    """With rows that compress as well as rows can: the same prompt and answer in each, and no other column."""
    job = make_job(
        [{"q": "x"}] * ROWS,
        output={"compression": compression, "keep_columns": "none", "store_prompt": False},
    )
    size = run(load_job(job)).folder.responses.stat().st_size
    assert least_bytes(ROWS) <= COPIES * size + LEAST_BYTES_OF_STATE


def test_the_estimate_of_a_large_run_is_what_it_takes() -> None:
    """Measured: 100,000 short rows take 21 MB at most; the estimate was 48 MB."""
    assert 4e6 < least_bytes(100_000) < 21e6
