"""Many parts and workers that die: what is made, and that the cost of a part does not grow with their number."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PARTS, WORKERS = 600, 12
MOST_GROWTH_MIB = 16


@pytest.mark.soak
def test_workers_that_die_make_every_part_once(tmp_path: Path) -> None:
    """In a process of its own: it forks, and measures its memory, both of which other tests in the process would disturb."""
    options = ["--parts", str(PARTS), "--rows", "50", "--workers", str(WORKERS)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.many_parts", str(tmp_path / "out"), *options],
        stdout=subprocess.PIPE,
        check=True,
        cwd=ROOT,
        text=True,
    )
    found = json.loads(done.stdout)
    assert found["deaths"] > 0
    workers = WORKERS + found["deaths"]
    assert found["lists"] <= 2 * workers, "the parts are listed by each worker twice at most"
    assert found["memory"][-1] - found["memory"][0] <= MOST_GROWTH_MIB, found["memory"]
