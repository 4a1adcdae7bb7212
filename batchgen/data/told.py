"""What a model told about blocks of answers, kept until the scores are published: a file for each block.

    .batchgen/told/<hash of what was asked>.told      Parquet with page checksums; a column for each who asked

A file's name says what was asked of which model, so that nothing is taken for the answer to another question. A file that
cannot be read is as good as none. Knows nothing of models or metrics.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.data.durable import disk_errors, write_durably
from batchgen.data.folder import RunFolder

TOLD = pa.list_(
    pa.struct(
        [
            ("logprob", pa.float64()),
            ("tokens", pa.int32()),
            ("greedy", pa.bool_()),
            ("failure", pa.string()),
        ]
    )
)
"""What is told about an answer: an entry for each text that was asked about. See `metrics/told.py`."""


@dataclass(frozen=True, slots=True)
class ToldStore:
    """The kept blocks of one run folder."""

    folder: RunFolder

    @property
    def _path(self) -> Path:
        return self.folder.private / "told"

    def has(self, key: str) -> bool:
        """Whether this block can be read."""
        return self._read(key) is not None

    def keep(self, key: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Keep a block.

        Args:
            key: hash of what was asked.
            columns: values of the type `TOLD`, by the name of the column.

        Raises:
            ResourceError: the disk refused.
        """
        arrays = {name: pa.array(values, TOLD) for name, values in columns.items()}
        content = BytesIO()
        pq.write_table(pa.table(arrays), content, compression="zstd", write_page_checksum=True)
        with disk_errors("cannot write into", self._path):
            self._path.mkdir(mode=0o700, exist_ok=True)
            write_durably(
                self._path / f"{key}.told",
                content.getvalue(),
                scratch=self.folder.scratch,
                stage="told",
            )

    def read(self, key: str) -> pa.Table:
        """A block that is kept.

        Raises:
            KeyError: it is not, or damaged.
        """
        table = self._read(key)
        if table is None:
            raise KeyError(key)
        return table

    def clear(self) -> None:
        """Delete all blocks: the scores are published."""
        with disk_errors("cannot delete", self._path):
            if self._path.exists():
                shutil.rmtree(self._path)

    def _read(self, key: str) -> pa.Table | None:
        path = self._path / f"{key}.told"
        try:
            return pq.read_table(path, page_checksum_verification=True)
        except (pa.ArrowException, OSError):
            return None
