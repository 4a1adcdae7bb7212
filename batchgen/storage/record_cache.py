"""Results that are kept between runs: one small JSON file for each key. The folder may be deleted at any time."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from batchgen.storage.durable import write_durably

MOST_FILES = 100
"""The oldest are deleted first."""

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class KeyedRecord(Generic[Record]):
    """The content of a file."""

    key: Mapping[str, str]
    record: Record


@dataclass(frozen=True, slots=True)
class RecordCache(Generic[Record]):
    """Records in a folder; it is created with the first record.

    Attributes:
        adapter: of the file's content.
    """

    folder: Path
    adapter: TypeAdapter[KeyedRecord[Record]]

    def get(self, key: Mapping[str, str]) -> Record | None:
        """The record of exactly this key; None if there is none, or its file cannot be read."""
        try:
            content = self.adapter.validate_json(self._file(key).read_bytes(), strict=True)
        except (OSError, ValidationError):
            return None
        return content.record if dict(content.key) == dict(key) else None

    def put(self, key: Mapping[str, str], record: Record) -> None:
        """Write a record. If that fails, the next run makes it again."""
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = self.adapter.dump_json(KeyedRecord(key, record), indent=1)
            write_durably(self._file(key), text, scratch=self.folder)
            files = sorted(self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
            for file in files[:-MOST_FILES]:
                file.unlink(missing_ok=True)

    def lock(self, key: Mapping[str, str]) -> Path:
        """The lock file of the process that makes the record of this key."""
        return self._file(key).with_suffix(".lock")

    def _file(self, key: Mapping[str, str]) -> Path:
        text = json.dumps(dict(key), sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
