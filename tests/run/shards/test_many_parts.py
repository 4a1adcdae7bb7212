"""Many parts and workers that die: what is made, and that the cost of a part does not grow with their number."""

from pathlib import Path

import pytest

from batchgen.state.run_folder import RunFolder
from tests.soak.many_parts import Load, check, simulate

MOST_GROWTH_MIB = 16


@pytest.mark.soak
def test_workers_that_die_make_every_part_once(tmp_path: Path) -> None:
    load, folder = Load(parts=600, rows=50, workers=12), RunFolder(tmp_path / "out")
    found = simulate(folder, load)
    check(folder, load)
    assert found.deaths > 0
    workers = load.workers + found.deaths
    assert found.lists <= 2 * workers, "the parts are listed by each worker twice at most"
    assert found.memory[-1] - found.memory[0] <= MOST_GROWTH_MIB
