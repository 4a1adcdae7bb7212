"""A lock file pins every byte of every file of a model."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen.errors import ModelError
from batchgen.models.find_model import ResolvedModel
from batchgen.models.lock_file import ModelLock, lock_path, make_pin, read_lock, verify_pin

Write = Callable[..., Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def model(tmp_path: Path, write_model: Write) -> ResolvedModel:
    return ResolvedModel(str(tmp_path / "tiny"), write_model(tmp_path / "tiny"), "folder", "")


@pytest.fixture
def lock(tmp_path: Path, model: ResolvedModel) -> ModelLock:
    """A lock file on the disk that pins the tiny model."""
    made = ModelLock(tmp_path / "jobs.lock.json").with_pin(model, make_pin(model, sha256))
    made.write()
    return made


def test_a_lock_file_is_next_to_its_job_and_reads_back_unchanged(lock: ModelLock) -> None:
    assert lock_path(lock.path.with_name("jobs.yaml")) == lock.path
    assert read_lock(lock.path) == lock
    assert read_lock(lock.path.with_name("other.lock.json")) is None


def test_a_lock_file_lists_visible_files_by_relative_path(
    tmp_path: Path, write_model: Write, model: ResolvedModel
) -> None:
    write_model(model.folder, {".git": "x", "README.md": "x", "sub/own.py": "x"})
    (model.folder / "sub" / "__pycache__").mkdir()
    (model.folder / "sub" / "__pycache__" / "own.pyc").write_text("x")
    ModelLock(tmp_path / "l.json").with_pin(model, make_pin(model, sha256)).write()
    (entry,) = json.loads((tmp_path / "l.json").read_text())["models"].items()
    assert entry[0] == "./tiny"
    assert sorted(entry[1]["files"]) == [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "sub/own.py",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    weights = model.folder / "model.safetensors"
    assert entry[1]["files"]["model.safetensors"] == {
        "bytes": weights.stat().st_size,
        "sha256": sha256(weights),
    }


def test_an_unchanged_model_passes_after_moving_lock_and_model(
    tmp_path: Path, lock: ModelLock, model: ResolvedModel
) -> None:
    assert verify_pin(lock, model, sha256) == lock.models["./tiny"]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    model.folder.rename(moved / "tiny")
    lock.path.rename(moved / "jobs.lock.json")
    read = read_lock(moved / "jobs.lock.json")
    assert read is not None
    verify_pin(read, ResolvedModel("x", moved / "tiny", "folder", ""), sha256)


CHANGES: dict[str, tuple[dict[str, object], str]] = {
    "another template": (
        {"chat_template.jinja": "other"},
        "chat_template.jinja has 5 bytes, expected",
    ),
    "missing file": ({"tokenizer.json": None}, "tokenizer.json is missing"),
    "added weights": ({"model-2.safetensors": b"x"}, "model-2.safetensors is not pinned"),
    "added code": ({"sub/own.py": "x"}, "sub/own.py is not pinned"),
    "added template": (
        {"additional_chat_templates/x.jinja": "x"},
        "additional_chat_templates/x.jinja is not pinned",
    ),
    "several": (
        {"chat_template.jinja": "x", "generation_config.json": None},
        "chat_template.jinja has .*; generation_config.json is missing",
    ),
    "many": (
        {f"more-{n}.json": "{}" for n in range(9)},
        "more-4.json is not pinned; and 4 more",
    ),
}


@pytest.mark.parametrize(("changes", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_the_error_of_a_changed_model_lists_its_files(
    lock: ModelLock,
    model: ResolvedModel,
    write_model: Write,
    changes: dict[str, object],
    message: str,
) -> None:
    write_model(model.folder, changes)
    with pytest.raises(ModelError, match=message) as caught:
        verify_pin(lock, model, sha256)
    assert str(lock.path) in caught.value.message
    assert "batchgen models pin JOB" in caught.value.hint
    assert str(model.folder) in caught.value.hint


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(["model.safetensors", "tokenizer.json", "config.json"]),
    data=st.data(),
)
def test_any_flipped_bit_is_detected(
    lock: ModelLock, model: ResolvedModel, name: str, data: st.DataObject
) -> None:
    file = model.folder / name
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(flipped)
    try:
        with pytest.raises(ModelError, match=rf"{name} has sha256 \w{{16}}…, expected \w{{16}}…"):
            verify_pin(lock, model, sha256)
    finally:
        file.write_bytes(whole)


def test_documents_may_be_added_to_a_pinned_model(
    lock: ModelLock, model: ResolvedModel, write_model: Write
) -> None:
    write_model(model.folder, {"README.md": "x", "picture.png": b"x"})
    verify_pin(lock, model, sha256)


def test_a_model_that_is_not_pinned_is_refused(lock: ModelLock, tmp_path: Path) -> None:
    other = ResolvedModel("demo:other", tmp_path / "other", "demo", "")
    with pytest.raises(ModelError, match=r"does not pin demo:other; it pins \./tiny"):
        verify_pin(lock, other, sha256)


def test_a_hub_model_is_resolved_at_its_pinned_commit(
    lock: ModelLock, model: ResolvedModel
) -> None:
    cached = ResolvedModel("owner/name", model.folder, "cache", COMMIT)
    both = lock.with_pin(cached, make_pin(cached, sha256))
    assert both.models["owner/name"].source == "hub"
    assert both.revision("owner/name", None) == COMMIT
    assert both.revision("owner/name", "main") == COMMIT
    assert both.revision("owner/other", "main") == "main"
    assert both.revision(model.name, None) is None
    with pytest.raises(ModelError, match=f"pins owner/name at {COMMIT}"):
        both.revision("owner/name", COMMIT[::-1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("{}", "format None, expected 1"),
        ('{"format": 2, "models": {}}', "format 2, expected 1"),
        ('{"format": 1}', "is damaged: KeyError"),
        ('{"format": 1, "models": {"a": 3}}', "is damaged"),
        ('{"format": 1, "models": {"a": {"source": "hub", "files": {}}}}', "is damaged"),
    ],
)
def test_a_damaged_lock_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "job.lock.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        read_lock(tmp_path / "job.lock.json")
