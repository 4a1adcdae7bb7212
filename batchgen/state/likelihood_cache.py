"""What a model told about blocks of answers, kept as long as scores are made of it: a file for each block.

    .batchgen/told/<hash of what was asked>.told      Parquet, a column for each who asked; then a hash of all that

A file's name says what was asked of which model, so that nothing is taken for the answer to another question. A file that
cannot be read is as good as none. Knows nothing of models or metrics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.state.run_folder import RunFolder
from batchgen.storage.durable import disk_errors, write_durably

LIKELIHOODS_TYPE = pa.list_(
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
"""What is told about an answer: an entry for each text that was asked about. See `metrics/told.py`."""


@dataclass(frozen=True, slots=True)
class LikelihoodCache:
    """The kept blocks of one run folder."""

    folder: RunFolder
    _used: set[str] = field(default_factory=set)

    @property
    def _path(self) -> Path:
        return self.folder.private / "told"

    def has(self, key: str) -> bool:
        """Whether this block can be read."""
        self._used.add(key)
        return self._whole(key) is not None

    def keep(self, key: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Keep a block.

        Args:
            key: hash of what was asked.
            columns: values of the type `LIKELIHOODS_TYPE`, by the name of the column.

        Raises:
            ResourceError: the disk refused.
        """
        arrays = {name: pa.array(values, LIKELIHOODS_TYPE) for name, values in columns.items()}
        content = BytesIO()
        pq.write_table(pa.table(arrays), content, compression="zstd")
        whole = content.getvalue()
        with disk_errors("cannot write into", self._path):
            self._path.mkdir(mode=0o700, exist_ok=True)
            write_durably(
                self._path / f"{key}.told",
                whole + _check(whole),
                scratch=self.folder.scratch,
                stage="told",
            )

    def read(self, key: str) -> pa.Table:
        """A block that is kept.

        Raises:
            KeyError: it is not, or damaged.
        """
        whole = self._whole(key)
        if whole is None:
            raise KeyError(key)
        return pq.read_table(pa.BufferReader(whole))

    def forget_others(self) -> None:
        """Delete all blocks that nobody asked for since this store was made."""
        with disk_errors("cannot delete from", self._path):
            for path in self._path.glob("*.told"):
                if path.stem not in self._used:
                    path.unlink()

    def _whole(self, key: str) -> bytes | None:
        """A block's file, if it is there and sound."""
        try:
            content = (self._path / f"{key}.told").read_bytes()
        except OSError:
            return None
        whole, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
        return whole if check == _check(whole) else None


_CHECK_BYTES = 16


def _check(content: bytes) -> bytes:
    """Parquet's own checksums leave its footer out, and a footer that is damaged may still be read as something."""
    return blake2b(content, digest_size=_CHECK_BYTES).digest()
