"""Members that join a run."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchgen.errors import LockedError
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.members import join
from batchgen.state.shards.shard import Shard


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.create()
    return made


@contextmanager
def beginning(folder: RunFolder, name: str) -> Iterator[None]:
    """A member that has locked its file and written nothing yet."""
    folder.shards.mkdir(exist_ok=True)
    with (folder.shards / f"{name}.json").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize(("name", "shard"), [("any-host-of-3-7", Shard()), ("2-of-4", Shard(1, 4))])
def test_members_of_one_division_may_begin_at_the_same_time(
    folder: RunFolder, name: str, shard: Shard
) -> None:
    with beginning(folder, name), join(folder, shard, {}) as member:
        assert member.content["shard"] == str(shard)


@pytest.mark.parametrize(
    ("name", "shard"), [("2-of-4", Shard()), ("any-host-7", Shard(1, 4)), ("2-of-4", Shard(1, 3))]
)
def test_members_of_another_division_are_refused(
    folder: RunFolder, name: str, shard: Shard
) -> None:
    with (
        beginning(folder, name),
        pytest.raises(LockedError, match=rf"shard .* cannot run in .* together with {name}"),
        join(folder, shard, {}),
    ):
        pass
