"""Records of tier selection are kept between runs and used only for exactly their key."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import batchgen.engines.torch as torch_engine
from batchgen.engines.torch.continuous.forward.products.linear import Packing
from batchgen.engines.torch.model_files import ModelFiles
from batchgen.engines.torch.select.tier_cache import (
    ComputeSettings,
    TierRecord,
    engine_sources,
    environment_key,
    tier_cache,
)
from batchgen.job.spec import ModelSpec
from batchgen.storage.record_cache import MOST_FILES, RecordCache
from tests.engines.torch.tiny_models import CPU

KEY = {"model": "abc", "versions": "torch 2.13", "text": 'quotes " and 数'}
RECORD = TierRecord(
    tier="continuous",
    reason="logits within 3.7e-05 of one row alone",
    batch_invariant=False,
    batch_invariant_reason="the last bits of a row's logits differ with another row",
    probed_at="2026-11-24T01:02:03+00:00",
)
SPEC = ModelSpec(path="model")
SETTINGS = ComputeSettings(CPU, torch.float32, Packing(torch.float32, 8), fastest="continuous")


@pytest.fixture
def tiers(tmp_path: Path) -> RecordCache[TierRecord]:
    return tier_cache(tmp_path / "cache" / "tiers")


def only_file(tiers: RecordCache[TierRecord]) -> Path:
    (file,) = tiers.folder.iterdir()
    return file


def test_the_reasons_against_faster_tiers_are_the_fallback() -> None:
    reason = "not continuous: its logits differ by 3.0e-01 of their spread; not static: no; logits within 1.0e-06 of one row alone"
    assert RECORD.fallback == ""
    assert replace(RECORD, reason=reason).fallback == (
        "not continuous: its logits differ by 3.0e-01 of their spread; not static: no"
    )


def test_another_engine_has_other_keys(tmp_path: Path) -> None:
    listed: list[str] = []
    for name, content in (("a/step.py", "1"), ("a/step.py", "2"), ("b/step.py", "2")):
        file = tmp_path / f"{len(listed)}" / name
        file.parent.mkdir(parents=True)
        file.write_text(content)
        (file.parent / "notes.txt").write_text(name)
        listed.append(engine_sources(tmp_path / f"{len(listed)}"))
    assert len(set(listed)) == 3
    ours = Path(str(torch_engine.__file__)).parent
    key = environment_key(ModelFiles(tmp_path, SPEC, ""), SETTINGS)
    assert key["engine"] == engine_sources(ours)


def test_the_cache_is_empty_at_first(tiers: RecordCache[TierRecord]) -> None:
    assert tiers.get(KEY) is None
    assert not tiers.folder.exists()


def test_the_last_record_of_a_key_is_found(tiers: RecordCache[TierRecord]) -> None:
    tiers.put(KEY, RECORD)
    assert tiers.get(KEY) == RECORD
    assert tiers.get(dict(reversed(KEY.items()))) == RECORD
    later = replace(RECORD, tier="static")
    tiers.put(KEY, later)
    assert tiers.get(KEY) == later


@pytest.mark.parametrize("name", KEY)
def test_another_key_has_no_record(tiers: RecordCache[TierRecord], name: str) -> None:
    tiers.put(KEY, RECORD)
    assert tiers.get(KEY | {name: "other"}) is None
    assert tiers.get({k: v for k, v in KEY.items() if k != name}) is None
    assert tiers.get(KEY | {"more": ""}) is None


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def without(text: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(file.read_bytes().replace(text, b"1"))


DAMAGE: Mapping[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "not JSON": lambda file: file.write_bytes(b"\x80\x04pickle"),
    "not UTF-8": lambda file: file.write_bytes(file.read_bytes().replace(b"tier", b"\xff\xfe")),
    "deeply nested": lambda file: file.write_text("[" * 500_000),
    "a key is missing": without(b'"reason"'),
    "a number for a text": without(b'"continuous"'),
    "another key": lambda file: file.write_bytes(file.read_bytes().replace(b"abc", b"abd")),
    "a folder": a_folder,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_ignored(tiers: RecordCache[TierRecord], damage: str) -> None:
    tiers.put(KEY, RECORD)
    DAMAGE[damage](only_file(tiers))
    assert tiers.get(KEY) is None


def test_a_folder_that_cannot_be_written_is_harmless(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in place of the folder")
    tiers = tier_cache(tmp_path / "cache" / "tiers")
    tiers.put(KEY, RECORD)
    assert tiers.get(KEY) is None


def test_the_oldest_files_are_deleted(tiers: RecordCache[TierRecord]) -> None:
    for number in range(MOST_FILES + 3):
        tiers.put({"number": str(number)}, RECORD)
        newest = max(tiers.folder.iterdir(), key=lambda f: f.stat().st_mtime_ns)
        os.utime(newest, (number, number))
    assert len(list(tiers.folder.iterdir())) == MOST_FILES
    assert tiers.get({"number": "0"}) is None
    assert tiers.get({"number": str(MOST_FILES + 2)}) == RECORD


@pytest.mark.parametrize(
    "other",
    [
        replace(SETTINGS, device=torch.device("meta")),
        replace(SETTINGS, dtype=torch.float64),
        replace(SETTINGS, packing=None),
        replace(SETTINGS, packing=Packing(torch.bfloat16, 4)),
        replace(SETTINGS, fastest="static"),
    ],
)
def test_the_key_contains_the_settings(other: ComputeSettings, tmp_path: Path) -> None:
    files = ModelFiles.scan(tmp_path, SPEC)
    assert environment_key(files, SETTINGS) == environment_key(files, replace(SETTINGS))
    assert environment_key(files, SETTINGS) != environment_key(files, other)


def test_the_key_contains_attention_versions_and_threads(tmp_path: Path) -> None:
    files = ModelFiles.scan(tmp_path, SPEC)
    before = environment_key(files, SETTINGS)
    eager = ModelSpec(path="model", attn_implementation="eager")
    assert environment_key(ModelFiles.scan(tmp_path, eager), SETTINGS) != before
    assert f"torch {torch.__version__.partition('+')[0]}" in before["versions"]
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert environment_key(files, SETTINGS) != before
    finally:
        torch.set_num_threads(threads)


def test_the_listing_changes_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "model.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"abc")
    os.utime(file, ns=(0, 0))
    files = ModelFiles.scan(tmp_path, SPEC)
    assert files.unchanged()
    file.write_bytes(b"abcd")
    os.utime(file, ns=(0, 0))
    assert not files.unchanged()


def test_a_file_that_disappears_during_the_listing_has_no_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It disappears between finding and reading, a moment that another process cannot hit reliably."""
    monkeypatch.setattr(Path, "rglob", lambda folder, _pattern: [folder / "gone"])
    monkeypatch.setattr(Path, "is_file", lambda _file: True)
    files = ModelFiles.scan(tmp_path, SPEC)
    assert files.listing == ""
    assert not files.unchanged()
