"""What trials of models found out, kept from run to run: a small JSON file for each set of circumstances.

A file counts only if it is the user's own, nobody else may write to it, its checksum is right and it speaks of
exactly these circumstances. Anything else is as if there were none: trials take a second or two, a wrong verdict
would take wrong answers. Knows nothing of models.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from batchgen.storage.durable import write_durably

MAX_RECORDS = 100
"""Files; the oldest leave first."""
_MOST_BYTES = 1 << 20
_Size = Annotated[int, Field(ge=0, le=1 << 24)]
_Bytes = Annotated[int, Field(ge=0, le=1 << 40)]


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Keys and values of a layer of the slot store."""

    number: _Size
    heads: _Size
    key_width: _Size
    value_width: _Size
    dtype: Literal["float64", "float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True)
class TierRecord:
    """What trials found out.

    Attributes:
        tier: its name.
        reason: how close it is to `generate`, and why no faster one was taken.
        layers: of the slot store; empty for a tier without one.
        vocab: width of the logits; 0 for a tier without slots.
        cache_per_token: how many numbers a token takes in the cache.
        cache_per_row: how many a row takes, whatever its length.
        independent: whether a row's logits are the same bits beside any others.
        independent_reason: what changed one.
        tried_at: when, in UTC.
    """

    tier: str
    reason: str
    layers: tuple[LayerShape, ...]
    vocab: _Size
    cache_per_token: _Bytes
    cache_per_row: _Bytes
    independent: bool
    independent_reason: str
    tried_at: str

    @staticmethod
    def now() -> str:
        """For `tried_at`."""
        return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class _Content:
    circumstances: Mapping[str, str]
    finding: TierRecord
    sha256: str


_CONTENT = TypeAdapter(_Content)
_FINDING = TypeAdapter(TierRecord)


@dataclass(frozen=True, slots=True)
class TierCache:
    """Findings in a folder, which is made when the first is kept; it may be removed at any time."""

    folder: Path

    def known(self, circumstances: Mapping[str, str]) -> TierRecord | None:
        """What was found out in exactly these circumstances; None if nothing was, or nothing that can be trusted."""
        content = _read(self._file(circumstances))
        if content is None:
            return None
        try:
            found = _CONTENT.validate_json(content, strict=True)
        except ValidationError:
            return None
        same = dict(found.circumstances) == dict(circumstances)
        whole = found.sha256 == _checksum(found.circumstances, found.finding)
        return found.finding if same and whole else None

    def keep(self, circumstances: Mapping[str, str], finding: TierRecord) -> None:
        """Keep what was found out. What cannot be kept is found out again next time."""
        content = _Content(circumstances, finding, _checksum(circumstances, finding))
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = self._file(circumstances)
            write_durably(file, _CONTENT.dump_json(content, indent=1), scratch=self.folder)
            self._make_room()

    def _file(self, circumstances: Mapping[str, str]) -> Path:
        name = hashlib.sha256(_canonical(circumstances)).hexdigest()[:32]
        return self.folder / f"{name}.json"

    def _make_room(self) -> None:
        files = sorted(self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for file in files[:-MAX_RECORDS]:
            file.unlink(missing_ok=True)


def _read(file: Path) -> bytes | None:
    """A regular file of this user that nobody else may write to, and that is small."""
    try:
        # Whatever lies there under that name, such as a pipe that nobody writes to, must not hold up the run.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(file, flags), "rb") as opened:
            seen = os.fstat(opened.fileno())
            own = stat.S_ISREG(seen.st_mode) and seen.st_uid == os.geteuid()
            others_write = seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if not own or others_write or seen.st_size > _MOST_BYTES:
                return None
            return opened.read(_MOST_BYTES)
    except OSError:
        return None


def _checksum(circumstances: Mapping[str, str], finding: TierRecord) -> str:
    text = _canonical(circumstances) + b"\n" + _FINDING.dump_json(finding)
    return hashlib.sha256(text).hexdigest()


def _canonical(circumstances: Mapping[str, str]) -> bytes:
    return json.dumps(dict(circumstances), sort_keys=True).encode()
