"""The run's folder: state is private, files are replaced atomically, and old runs are moved aside, not deleted."""

import stat
from pathlib import Path

import pytest

from batchgen.errors import ExitCode, ResourceError, StateError
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.durable import commit_new, sync_file, temporary_name, write_durably


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "out")
    made.create()
    return made


def test_state_is_readable_only_by_its_owner(folder: RunFolder) -> None:
    folder.write_json(folder.run, {"a": 1}, stage="manifest")
    assert stat.S_IMODE(folder.private.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.run.stat().st_mode) == 0o600


def test_a_file_is_replaced_atomically(folder: RunFolder) -> None:
    folder.write_json(folder.manifest, {"text": "你好"}, stage="manifest")
    folder.write_json(folder.manifest, {"text": "再见"}, stage="manifest")
    assert read_json(folder.manifest) == {"text": "再见"}
    assert "再见" in folder.manifest.read_text("utf-8")
    assert list(folder.scratch.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(folder: RunFolder) -> None:
    folder.write_text(folder.job, "old", stage="job")
    with pytest.raises(FileNotFoundError):
        write_durably(
            folder.path / "no such" / "job.yaml", b"new", scratch=folder.scratch, stage="job"
        )
    assert folder.job.read_text() == "old"
    assert list(folder.scratch.iterdir()) == []


def test_a_commit_never_overwrites(folder: RunFolder) -> None:
    target = folder.parts / "00000.bgpart"
    target.write_text("first")
    temporary = temporary_name(folder.scratch)
    temporary.write_text("second")
    sync_file(temporary)
    with pytest.raises(FileExistsError):
        commit_new(temporary, target)
    assert target.read_text() == "first"


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00\x01", "null"])
def test_the_error_names_the_damaged_state(folder: RunFolder, content: str) -> None:
    folder.run.write_text(content)
    with pytest.raises(StateError, match=r"run\.json is damaged") as caught:
        read_json(folder.run)
    assert caught.value.exit_code == ExitCode.STATE
    assert "`batchgen run --fresh`" in caught.value.hint


def test_old_runs_are_moved_aside_one_by_one(folder: RunFolder) -> None:
    assert folder.set_aside() is None
    for number in (1, 2):
        folder.write_json(folder.run, {"night": number}, stage="manifest")
        folder.write_json(folder.manifest, {"night": number}, stage="manifest")
        (folder.parts / "00000.bgpart").write_text("rows")
        aside = folder.set_aside()
        assert aside == folder.path.with_name(f"out.old-{number}")
        assert read_json(aside / "manifest.json") == {"night": number}
        assert (aside / ".batchgen" / "parts" / "00000.bgpart").exists()
        assert not folder.manifest.exists()
        assert folder.parts.is_dir()


def test_the_error_names_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot create the output folder") as caught:
        RunFolder(tmp_path / "file" / "out").create()
    assert caught.value.exit_code == ExitCode.ENVIRONMENT


def test_leftovers_of_an_interrupted_run_are_deleted(folder: RunFolder) -> None:
    (folder.scratch / "x.tmp").write_text("half")
    (folder.scratch / "y.tmp").mkdir()
    (folder.scratch / "y.tmp" / "part-00000.parquet").write_text("half")
    folder.clear_scratch()
    assert list(folder.scratch.iterdir()) == []


@pytest.mark.parametrize("name", [".batchgen", ".batchgen/parts", ".batchgen/tmp"])
def test_a_symlink_instead_of_a_private_folder_is_rejected(name: str, tmp_path: Path) -> None:
    """Following the symlink would empty the folder that it points to."""
    target = tmp_path / "precious"
    target.mkdir()
    (target / "kept").write_text("kept")
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    with pytest.raises(ResourceError, match="is a link"):
        RunFolder(tmp_path / "out").create()
    assert [p.name for p in target.iterdir()] == ["kept"]


def test_symlinks_among_leftovers_are_removed_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    (target / "kept").write_text("kept")
    folder = RunFolder(tmp_path / "out")
    folder.create()
    (folder.scratch / "a").symlink_to(target)
    (folder.scratch / "b").symlink_to(target / "kept")
    folder.clear_scratch()
    assert list(folder.scratch.iterdir()) == []
    assert (target / "kept").read_text() == "kept"


def test_permissions_of_existing_private_folders_are_restricted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    (tmp_path / "out/.batchgen/tmp").mkdir(parents=True)
    folder.private.chmod(0o777)
    folder.scratch.chmod(0o777)
    folder.create()
    for one in (folder.private, folder.parts, folder.scratch):
        assert stat.S_IMODE(one.stat().st_mode) == 0o700
