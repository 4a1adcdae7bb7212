"""Counter-based random numbers: fixed across versions, uniform, independent of each other."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.decoding.rng import row_seed, uniforms

PINNED_SEEDS = [
    (0, "0", 0, 2431993192311254673),
    (0, "0", 1, 1706636149149112233),
    (1, "0", 0, 323986953899703464),
    (2**63 - 1, "行-17", 3, 909362502104304041),
]
PINNED_UNIFORMS = [
    (0, 0, 0.28176129772258496),
    (0, 1, 0.80255116473696),
    (1, 0, 0.9160981669305095),
    (2**63 - 1, 4095, 0.7381594575588202),
]


@pytest.mark.parametrize(("run_seed", "row_id", "sample", "expected"), PINNED_SEEDS)
def test_the_seed_of_an_answer_never_changes(
    run_seed: int, row_id: str, sample: int, expected: int
) -> None:
    assert row_seed(run_seed, row_id, sample) == expected


@pytest.mark.parametrize(("seed", "step", "expected"), PINNED_UNIFORMS)
def test_the_number_of_a_step_never_changes(seed: int, step: int, expected: float) -> None:
    drawn = uniforms(np.array([seed], np.uint64), np.array([step]))
    assert drawn.tolist() == [expected]


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**40))
def test_a_number_is_splitmix64s_output_function_of_seed_plus_hashed_step(
    seed: int, step: int
) -> None:
    def mix(value: int) -> int:
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
        return value ^ (value >> 31)

    counter = mix((step + 1) * 0x9E3779B97F4A7C15 % 2**64)
    expected = (mix((seed + counter) % 2**64) >> 11) / 2**53
    assert uniforms(np.array([seed], np.uint64), np.array([step])).tolist() == [expected]


@given(st.integers(0, 2**63 - 1), st.text(), st.integers(0, 1023))
def test_a_seed_has_63_bits(run_seed: int, row_id: str, sample: int) -> None:
    assert 0 <= row_seed(run_seed, row_id, sample) < 2**63


def test_the_seed_depends_on_run_seed_id_and_sample() -> None:
    seeds = [row_seed(r, i, s) for r in range(10) for i in ("", "0", "1", "01") for s in range(10)]
    assert len(set(seeds)) == 400


def test_an_id_with_a_lone_surrogate_has_a_seed() -> None:
    assert row_seed(0, "\ud83d", 0) != row_seed(0, "?", 0)


@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 10_000)), min_size=2))
def test_a_number_depends_only_on_its_seed_and_step(pairs: list[tuple[int, int]]) -> None:
    seeds = np.array([seed for seed, _ in pairs], np.uint64)
    steps = np.array([step for _, step in pairs])
    together = uniforms(seeds, steps)
    alone = [uniforms(seeds[i : i + 1], steps[i : i + 1])[0] for i in range(len(pairs))]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < 1)).all()


# 512 rows x 512 steps. Consecutive seeds are the hardest case; real ones are hashes.
SEEDS = np.arange(512, dtype=np.uint64)[:, None]
GRID = uniforms(SEEDS, np.arange(512)[None, :])


def test_mean_and_variance_are_those_of_the_uniform_distribution() -> None:
    # 4 standard errors: sqrt(1/12 / n) and sqrt(1/180 / n).
    assert abs(GRID.mean() - 1 / 2) < 4 * (1 / 12 / GRID.size) ** 0.5
    assert abs(GRID.var() - 1 / 12) < 4 * (1 / 180 / GRID.size) ** 0.5


def test_values_fill_the_interval_evenly() -> None:
    counts = np.histogram(GRID, bins=256, range=(0, 1))[0]
    expected = GRID.size / 256
    # The 0.999 quantile of chi-square with 255 degrees of freedom is 330.5.
    assert ((counts - expected) ** 2 / expected).sum() < 330.5


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param(GRID[:, :-1], GRID[:, 1:], id="next step"),
        pytest.param(GRID[:-1], GRID[1:], id="next row"),
        pytest.param(GRID[:-1, 1:], GRID[1:, :-1], id="next row, step before"),
        pytest.param(GRID, GRID.T, id="row and step exchanged"),
    ],
)
def test_neighbours_are_independent(
    left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]
) -> None:
    if left is GRID:
        above = np.triu_indices(512, k=1)
        left, right = left[above], right[above]
    correlation = np.corrcoef(left.ravel(), right.ravel())[0, 1]
    assert abs(correlation) < 4 / left.size**0.5


def test_two_rows_never_share_a_sequence_of_numbers() -> None:
    rows = GRID[:64, :64]
    assert len({round(v, 15) for v in rows.ravel().tolist()}) == rows.size
