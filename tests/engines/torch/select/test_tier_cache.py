"""Findings are kept from run to run, and count only as they were written, in the circumstances they were written for."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from batchgen.engines.torch.select.tier_cache import MAX_RECORDS, LayerShape, TierCache, TierRecord

HERE = {"files": "abc", "torch": "2.13", "text": 'quotes " and 数'}
FOUND = TierRecord(
    tier="slots",
    reason="logits within 3.7e-05 of one row alone",
    layers=(LayerShape(0, 2, 8, 8, "float32"), LayerShape(1, 2, 8, 16, "float32")),
    vocab=97,
    cache_per_token=96,
    cache_per_row=0,
    independent=False,
    independent_reason="a row's logits have other last bits beside another row",
    tried_at="2026-11-24T01:02:03+00:00",
)


@pytest.fixture
def verdicts(tmp_path: Path) -> TierCache:
    return TierCache(tmp_path / "cache" / "verdicts")


def only_file(verdicts: TierCache) -> Path:
    (file,) = verdicts.folder.iterdir()
    return file


def test_nothing_is_known_at_first(verdicts: TierCache) -> None:
    assert verdicts.known(HERE) is None
    assert not verdicts.folder.exists()


def test_what_is_kept_is_known(verdicts: TierCache) -> None:
    verdicts.keep(HERE, FOUND)
    assert verdicts.known(HERE) == FOUND
    assert verdicts.known(dict(reversed(HERE.items()))) == FOUND
    later = replace(FOUND, tier="cohort", layers=())
    verdicts.keep(HERE, later)
    assert verdicts.known(HERE) == later


@pytest.mark.parametrize("name", HERE)
def test_in_other_circumstances_nothing_is_known(verdicts: TierCache, name: str) -> None:
    verdicts.keep(HERE, FOUND)
    assert verdicts.known(HERE | {name: "other"}) is None
    assert verdicts.known({k: v for k, v in HERE.items() if k != name}) is None
    assert verdicts.known(HERE | {"more": ""}) is None


def test_only_its_owner_may_read_or_write_it(verdicts: TierCache) -> None:
    verdicts.keep(HERE, FOUND)
    assert verdicts.folder.stat().st_mode & 0o777 == 0o700
    assert only_file(verdicts).stat().st_mode & 0o777 == 0o600


def change(file: Path, edit: Callable[[dict[str, dict[str, object]]], object]) -> None:
    content = json.loads(file.read_bytes())
    edit(content)
    file.write_text(json.dumps(content), "utf-8")


def torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_link(file: Path) -> None:
    moved = file.rename(file.parent.parent / "elsewhere.json")
    file.symlink_to(moved)


HARM: Mapping[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "torn": torn,
    "not JSON": lambda file: file.write_bytes(b"\x80\x04pickle"),
    "not UTF-8": lambda file: file.write_bytes(file.read_bytes().replace(b"slots", b"\xff\xfe")),
    "endlessly deep": lambda file: file.write_text("[" * 500_000),
    "too large": lambda file: file.write_bytes(file.read_bytes() + b" " * (2 << 20)),
    "another tier": lambda file: file.write_bytes(file.read_bytes().replace(b"slots", b"other")),
    "other shapes": lambda file: change(file, lambda c: c["finding"].update(vocab=98)),
    "a number for a text": lambda file: change(file, lambda c: c["finding"].update(tier=1)),
    "a size beyond all": lambda file: change(file, lambda c: c["finding"].update(vocab=1 << 60)),
    "a key less": lambda file: change(file, lambda c: c["finding"].pop("layers")),
    "a format unheard of": lambda file: file.write_bytes(
        file.read_bytes().replace(b'"float32"', b'"__import__"')
    ),
    "others may write": lambda file: file.chmod(0o666),
    "a link": a_link,
    "a pipe": a_pipe,
    "a folder": a_folder,
}


@pytest.mark.parametrize("harm", HARM)
def test_what_cannot_be_trusted_is_as_nothing(verdicts: TierCache, harm: str) -> None:
    verdicts.keep(HERE, FOUND)
    HARM[harm](only_file(verdicts))
    assert verdicts.known(HERE) is None


def test_a_flipped_bit_is_found_or_harmless(verdicts: TierCache) -> None:
    verdicts.keep(HERE, FOUND)
    file = only_file(verdicts)
    whole = file.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        assert verdicts.known(HERE) in (None, FOUND)


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    verdicts = TierCache(tmp_path / "cache" / "verdicts")
    verdicts.keep(HERE, FOUND)
    assert verdicts.known(HERE) is None


def test_the_oldest_make_room(verdicts: TierCache) -> None:
    for number in range(MAX_RECORDS + 3):
        verdicts.keep({"number": str(number)}, FOUND)
        newest = max(verdicts.folder.iterdir(), key=lambda f: f.stat().st_mtime_ns)
        os.utime(newest, (number, number))
    assert len(list(verdicts.folder.iterdir())) == MAX_RECORDS
    assert verdicts.known({"number": "0"}) is None
    assert verdicts.known({"number": str(MAX_RECORDS + 2)}) == FOUND
