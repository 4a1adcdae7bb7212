"""SQLite files next to which something else stands: the log and its index are never followed through a link."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import StateError
from batchgen.storage.sqlite import connect, files_of, read_only, remove, set_aside

SCHEMA = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER)"


def link(path: Path) -> None:
    path.with_name("victim").write_text("untouched")
    path.symlink_to("victim")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "database.sqlite3"
    connection = connect(path, SCHEMA)
    connection.execute("INSERT INTO numbers VALUES (7)")
    connection.close()
    return path


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
@pytest.mark.parametrize(("make", "kind"), [(link, "a link"), (Path.mkdir, "a folder")])
def test_something_else_in_place_of_the_log_or_its_index_is_named(
    database: Path, ending: str, make: Callable[[Path], None], kind: str
) -> None:
    harmed = database.with_name(database.name + ending)
    make(harmed)
    with pytest.raises(StateError, match=f"{ending} is {kind}; expected a file"):
        connect(database, SCHEMA)
    with pytest.raises(StateError, match=f"{ending} is {kind}"), read_only(database):
        pass
    aside = set_aside(database)
    assert not any(file.is_symlink() or file.exists() for file in files_of(database))
    connection = sqlite3.connect(f"{aside.as_uri()}?immutable=1", uri=True)
    assert connection.execute("SELECT number FROM numbers").fetchall() == [(7,)]
    connection.close()
    if make is link:
        assert database.with_name("victim").read_text() == "untouched"


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_a_link_in_place_of_the_log_or_its_index_is_deleted_with_the_database(
    database: Path, ending: str
) -> None:
    link(database.with_name(database.name + ending))
    remove(database)
    assert [path.name for path in database.parent.iterdir()] == ["victim"]
    assert database.with_name("victim").read_text() == "untouched"


def test_an_index_left_by_a_kill_is_used_and_deleted(database: Path) -> None:
    writer = connect(database, SCHEMA)
    writer.execute("INSERT INTO numbers VALUES (8)")
    assert files_of(database)[2].exists()
    with read_only(database) as reader:
        assert reader.execute("SELECT count(*) FROM numbers").fetchone() == (2,)
    writer.close()
    remove(database)
    assert list(database.parent.iterdir()) == []


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_a_folder_in_place_of_a_database_is_named_and_not_deleted(
    ending: str, tmp_path: Path
) -> None:
    folder = tmp_path / f"journal.sqlite3{ending}"
    folder.mkdir()
    with pytest.raises(StateError, match="is a folder; expected a file"):
        remove(tmp_path / "journal.sqlite3")
    assert folder.is_dir()
