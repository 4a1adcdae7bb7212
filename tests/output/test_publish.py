"""A release that a process began: what stands in place of a staged file is named, and what a link names stays as it is."""

import stat
from pathlib import Path

import pytest

from batchgen.errors import StateError
from batchgen.output.publish import finish_release
from batchgen.state.run_folder import RunFolder


@pytest.mark.parametrize("name", ["responses.parquet", "responses/part-00001.parquet"])
@pytest.mark.parametrize("loops", [False, True], ids=["link to a file", "link to itself"])
def test_a_link_in_place_of_a_staged_file_is_named(name: str, loops: bool, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    folder.create(0o600)
    staged = folder.staged / name
    staged.parent.mkdir(parents=True, exist_ok=True)
    foreign = tmp_path / "foreign"
    foreign.write_text("untouched")
    foreign.chmod(0o400)
    staged.symlink_to(staged if loops else foreign)
    record = {"files": [name], "mode": 0o644, "manifest": None, "superseded": None}
    folder.write_json(folder.release, record, stage="release")
    with pytest.raises(StateError, match=f"{staged.name} is a link; expected a file"):
        finish_release(folder)
    assert stat.S_IMODE(foreign.stat().st_mode) == 0o400
    assert folder.release.exists()
