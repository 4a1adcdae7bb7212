"""Likelihoods of texts about blocks of answers, cached while scores are computed from them.

    .batchgen/likelihoods/<hash of the queries>-<hash of the file>.parquet      a column for each metric or judge

A file whose content does not match its name is ignored: Parquet's own checksums leave out its footer. Where the parts of a run
are in object storage, its blocks are there too, under the same names (`SharedBlocks`), and those of the folder are copies.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.state.run_folder import RunFolder
from batchgen.storage.durable import disk_errors, write_durably

LIKELIHOODS = pa.list_(
    pa.struct(
        [
            ("logprob", pa.float64()),
            ("tokens", pa.int32()),
            ("greedy", pa.bool_()),
            ("failure", pa.string()),
            ("note", pa.string()),
        ]
    )
)
"""The cell of an answer: an entry for each query. See `metrics/likelihood_columns.py`."""


class SharedBlocks(Protocol):
    """Blocks that the machines of a run share, which have no folder in common."""

    def read(self, key: str) -> tuple[str, bytes] | None:
        """Name and content of a block; None if there is none."""

    def save(self, name: str, content: bytes) -> None:
        """Save a block."""


@dataclass(frozen=True, slots=True)
class LikelihoodCache:
    """The cached blocks of one run folder; a key is a hash of a block's queries."""

    folder: RunFolder
    shared: SharedBlocks | None = None
    _used: set[str] = field(default_factory=set)

    @property
    def _path(self) -> Path:
        return self.folder.private / "likelihoods"

    def read(self, key: str) -> pa.Table | None:
        """A cached block; None where it is missing or damaged."""
        self._used.add(key)
        for name, content in self._found(key):
            if name == _name(key, content):
                return pq.read_table(pa.BufferReader(content))
        return None

    def _found(self, key: str) -> Iterator[tuple[str, bytes]]:
        """Names and contents of the files of a block. One that others share is copied."""
        for path in self._path.glob(f"{key}-*.parquet"):
            try:
                content = path.read_bytes()
            except OSError:  # an unreadable block is queried again, like a damaged one
                continue
            yield path.name, content
        if self.shared is not None and (found := self.shared.read(key)) is not None:
            self._write(*found)
            yield found

    def save(self, key: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write a block; `columns` are values of the type `LIKELIHOODS`.

        Raises:
            ResourceError: the disk is full or failed.
            BatchgenError: the store of the shared blocks does not answer, or rejects the credentials.
        """
        arrays = {name: pa.array(values, LIKELIHOODS) for name, values in columns.items()}
        buffer = BytesIO()
        pq.write_table(pa.table(arrays), buffer, compression="zstd")
        content = buffer.getvalue()
        self._write(_name(key, content), content)
        if self.shared is not None:
            self.shared.save(_name(key, content), content)

    def _write(self, name: str, content: bytes) -> None:
        target, scratch = self._path / name, self.folder.scratch
        with disk_errors("cannot write into", self._path):
            self._path.mkdir(mode=0o700, exist_ok=True)
            write_durably(target, content, scratch=scratch, stage="likelihoods")

    def delete_unused(self) -> None:
        """Delete all blocks that this object has not read."""
        with disk_errors("cannot delete from", self._path):
            for path in self._path.glob("*.parquet"):
                if path.stem.partition("-")[0] not in self._used:
                    path.unlink()


def _name(key: str, content: bytes) -> str:
    return f"{key}-{blake2b(content, digest_size=16).hexdigest()}.parquet"
