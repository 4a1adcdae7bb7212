"""A hash is reused only while the file is provably unchanged."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import ModelError
from batchgen.models.hash_cache import HashCache

CONTENT = b"numbers" * 100


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def notes(tmp_path: Path) -> HashCache:
    """Notes about files of any size and age."""
    return HashCache(tmp_path / "notes", small_bytes=0, settled_seconds=0.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    return path


def test_a_file_is_not_read_twice(notes: HashCache, file: Path) -> None:
    assert notes.sha256(file) == sha256(CONTENT)
    (note,) = notes.folder.iterdir()
    note.write_text(note.read_text().replace(sha256(CONTENT), "f" * 64))
    assert notes.sha256(file) == "f" * 64
    assert notes.rehash(file) == sha256(CONTENT)
    assert notes.sha256(file) == sha256(CONTENT)


def overwritten(file: Path) -> None:
    """The same size and times: only ctime differs."""
    seen = file.stat()
    file.write_bytes(bytes(len(CONTENT)))
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def replaced(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(bytes(len(CONTENT)))
    seen = file.stat()
    os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    other.replace(file)


def linked_elsewhere(file: Path) -> None:
    """Like the hub's cache: the name is a symlink to a blob."""
    (blob := file.with_name("blob")).write_bytes(bytes(len(CONTENT)))
    file.unlink()
    file.symlink_to(blob)


@pytest.mark.parametrize("change", [overwritten, replaced, linked_elsewhere])
def test_a_changed_file_is_read_again(
    notes: HashCache, file: Path, change: Callable[[Path], None]
) -> None:
    notes.sha256(file)
    change(file)
    assert notes.cached(file) is None
    assert notes.sha256(file) == sha256(bytes(len(CONTENT)))


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"file": 1}'])
def test_a_damaged_note_is_ignored(notes: HashCache, file: Path, damage: str) -> None:
    notes.sha256(file)
    (note,) = notes.folder.iterdir()
    note.write_text(damage)
    assert notes.sha256(file) == sha256(CONTENT)
    assert json.loads(note.read_text())["sha256"] == sha256(CONTENT)


@pytest.mark.parametrize(
    "notes_of",
    [
        pytest.param(lambda folder: HashCache(folder, small_bytes=0), id="just written"),
        pytest.param(lambda folder: HashCache(folder, settled_seconds=0.0), id="small"),
    ],
)
def test_small_or_recently_changed_files_are_not_noted(
    tmp_path: Path, file: Path, notes_of: Callable[[Path], HashCache]
) -> None:
    notes = notes_of(tmp_path / "notes")
    assert notes.sha256(file) == sha256(CONTENT)
    assert not notes.folder.exists()


def test_an_unwritable_cache_is_not_an_error(tmp_path: Path, file: Path) -> None:
    (tmp_path / "notes").write_text("a file where the folder should be")
    notes = HashCache(tmp_path / "notes", small_bytes=0, settled_seconds=0.0)
    assert notes.sha256(file) == sha256(CONTENT)


def test_the_error_names_a_missing_file(notes: HashCache, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone: No such file"):
        notes.sha256(tmp_path / "gone")


def test_progress_ends_with_the_size_of_the_file(notes: HashCache, tmp_path: Path) -> None:
    large = tmp_path / "large"
    content = os.urandom(1000) * 20_000
    large.write_bytes(content)
    seen: list[int] = []
    assert notes.rehash(large, seen.append) == sha256(content)
    assert seen == sorted(seen)
    assert len(seen) == 3
    assert seen[-1] == 20_000_000
