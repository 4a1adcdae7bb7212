"""A short version of `python -m tests.soak --harms 300`."""

import random
from pathlib import Path

import pytest

from tests.soak.corruption import STATES, corruptions
from tests.soak.harness import Spawner, Work


@pytest.mark.soak
@pytest.mark.parametrize(("layout", "seed"), [("file", 1), ("parts", 2)])
def test_a_harmed_file_is_repaired_or_named(tmp_path: Path, layout: str, seed: int) -> None:
    with Spawner(tmp_path / "log") as spawner:
        work = Work(tmp_path / layout, spawner, rows=200, layout=layout)
        seen = corruptions(work, 30, random.Random(seed))
    assert seen.total() == 30
    assert {outcome.partition("  ")[0].strip() for outcome in seen} == set(STATES)
