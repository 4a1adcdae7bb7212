"""Write rows of training data: JSON Lines or Parquet, and the entry of LLaMA-Factory's dataset_info.json."""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.errors import DataError, UsageError
from batchgen.feedback.training.formats import DATASET_INFO, Row
from batchgen.storage.durable import disk_errors, read_errors, write_durably
from batchgen.storage.entries import exists, is_folder

_SUFFIXES = (".jsonl", ".parquet")


def check_target(target: Path) -> None:
    """UsageError if a file cannot have this name, or its folder does not exist."""
    if target.suffix.lower() not in _SUFFIXES:
        raise UsageError(
            f"{target}: unknown format {target.suffix!r}",
            hint=f"End the name of the file in {' or '.join(_SUFFIXES)}.",
        )
    if not is_folder(target.absolute().parent):
        raise UsageError(
            f"cannot write {target}: the folder {target.absolute().parent} does not exist",
            hint="Create the folder, or choose another one.",
        )


def write_rows(target: Path, rows: Sequence[Row], format_name: str) -> None:
    """Write one file, which only its owner may read; one that exists is replaced when all is written.

    Raises:
        UsageError: see `check_target`.
        DataError: dataset_info.json next to it is not a JSON object.
        ResourceError: the disk is full or read-only.
    """
    check_target(target)
    unfinished = target.with_name(f".{uuid.uuid4().hex}{target.suffix}")
    with disk_errors("cannot write", target):
        try:
            unfinished.touch(mode=0o600)
            if target.suffix.lower() == ".parquet":
                pq.write_table(pa.Table.from_pylist(list(rows)), unfinished)
            else:
                lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                unfinished.write_text(lines, "utf-8")
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    if (entry := DATASET_INFO.get(format_name)) is not None:
        _add_entry(target, dict(entry))


def _add_entry(target: Path, entry: dict[str, object]) -> None:
    """Describe a file in dataset_info.json of its folder; other entries stay."""
    info = target.with_name("dataset_info.json")
    content: dict[str, object] = {}
    if exists(info):
        try:
            with read_errors(info):
                content = json.loads(info.read_text("utf-8"))
            valid = isinstance(content, dict)
        except ValueError:
            valid = False
        if not valid:
            raise DataError(
                f"{info} is not a JSON object", hint="Repair it, or write to another folder."
            )
    content[target.stem] = {"file_name": target.name, **entry}
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    with disk_errors("cannot write", info):
        write_durably(info.absolute(), text.encode(), scratch=info.absolute().parent)
