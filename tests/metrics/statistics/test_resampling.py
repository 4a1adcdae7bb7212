"""Sums of row statistics and of resampled ones, whatever the number of rows that are read at one time."""

import numpy as np
import pytest

from batchgen.metrics.statistics import resampling
from batchgen.metrics.statistics.intervals import Floats
from batchgen.metrics.statistics.resampling import resample, sum_rows


def counts(rows: int) -> Floats:
    return np.random.default_rng(6).poisson(20.0, (rows, 2)).astype(np.float64)


def test_every_replicate_draws_as_many_rows_as_there_are() -> None:
    drawn = resample(np.column_stack([np.arange(300.0), np.ones(300)]), replicates=50, seed=1)
    assert (drawn[:, 1] == 300).all()
    assert len(np.unique(drawn[:, 0])) > 40


def test_the_same_seed_resamples_two_runs_alike() -> None:
    sums = np.random.default_rng(6).random((500, 2))
    one, other = (resample(sums * factor, replicates=20, seed=9) for factor in (1.0, 2.0))
    assert np.allclose(other, 2 * one)


@pytest.mark.parametrize("rows", [1, 6, 7, 8, 100])
def test_the_size_of_a_block_changes_no_sum(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = counts(rows)
    drawn = resample(table, replicates=20, seed=3)
    monkeypatch.setattr(resampling, "BLOCK_ROWS", 7)
    assert (resample(table, replicates=20, seed=3) == drawn).all()
    assert (sum_rows(table) == table.sum(axis=0)).all()


def test_no_rows_have_a_sum_of_zeros() -> None:
    assert sum_rows(np.empty((0, 3))).tolist() == [0.0, 0.0, 0.0]
