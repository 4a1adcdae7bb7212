"""Parquet files read as one table: streams of row groups, random access, verified page checksums."""

import stat
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchgen.errors import StateError
from batchgen.storage.durable import check_path_is_text, not_permitted

CACHED_ROW_GROUPS = 4
"""Row groups that random access keeps in memory, about 16 MiB each: two runs mostly have the same row order."""


class ParquetTable:
    """Parquet files with one schema, read as one table. Checksums of all pages that are read are verified.

    Each method raises a StateError with the file's name if the file is damaged, or is replaced between two reads.
    """

    def __init__(self, paths: Sequence[Path], *, hint: str = "") -> None:
        self.paths = paths
        self._hint = hint or "Run `batchgen verify RUN` to check every page."
        self._open: tuple[Path, pq.ParquetFile] | None = None
        self._stamps: dict[Path, tuple[int, int, int]] = {}
        self._cache: dict[tuple[int, tuple[str, ...] | None], pa.Table] = {}

    @cached_property
    def schema(self) -> pa.Schema:
        """With the metadata of the first file."""
        schema = self._file(self._first).schema_arrow
        try:
            list(schema.names)
        except ValueError as error:  # a name that is not UTF-8
            raise self._damaged(self._first) from error
        return schema

    @property
    def compression(self) -> str:
        """As the job key `output.compression` names it."""
        file = self._file(self._first)
        if not file.num_row_groups:
            return "zstd"
        name: str = file.metadata.row_group(0).column(0).compression
        return "none" if name == "UNCOMPRESSED" else name.lower()

    @property
    def num_rows(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def row_groups(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, a row group at a time. A published row group has whole parts, so no prompt spans two of them."""
        for path in self.paths:
            for number in range(self._file(path).num_row_groups):
                yield self._read(path, number, columns)

    def read(
        self, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> pa.Table:
        """All rows that fulfil a condition on these columns, in memory."""
        tables = self.row_groups(columns)
        chosen = tables if where is None else (table.filter(where) for table in tables)
        return pa.concat_tables([self._empty(columns), *chosen])

    def take(self, rows: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Rows by their number in the whole table, in the given order."""
        numbers = np.asarray(rows, np.int64)
        groups = np.searchsorted(self._ends, numbers, side="right")
        tables = [self._empty(columns)]
        for group in np.unique(groups):
            table = self._cached(int(group), columns)
            first = self._ends[group] - table.num_rows
            tables.append(table.take(numbers[groups == group] - first))
        return pa.concat_tables(tables).take(np.argsort(np.argsort(groups, kind="stable")))

    def _empty(self, columns: Sequence[str] | None) -> pa.Table:
        table = self.schema.remove_metadata().empty_table()
        return table if columns is None else table.select(columns)

    @property
    def _first(self) -> Path:
        if not self.paths:
            raise StateError(
                "the run has no answers", hint="Start over with `batchgen run --fresh`."
            )
        return self.paths[0]

    @cached_property
    def _groups(self) -> list[tuple[Path, int, int]]:
        """File, number in it, and rows of each row group."""
        groups = []
        for path in self.paths:
            metadata = self._file(path).metadata
            sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
            groups += [(path, n, size) for n, size in enumerate(sizes)]
        return groups

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum([size for _, _, size in self._groups], dtype=np.int64)

    def _cached(self, group: int, columns: Sequence[str] | None) -> pa.Table:
        key = (group, None if columns is None else tuple(columns))
        if key not in self._cache:
            if len(self._cache) >= CACHED_ROW_GROUPS:
                del self._cache[next(iter(self._cache))]
            path, number, _ = self._groups[group]
            self._cache[key] = self._read(path, number, columns)
        return self._cache[key]

    def _read(self, path: Path, number: int, columns: Sequence[str] | None) -> pa.Table:
        file = self._file(path)
        try:
            table = file.read_row_group(number, columns=None if columns is None else list(columns))
            return table.replace_schema_metadata() if columns is None else table.select(columns)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise self._damaged(path) from error

    def _file(self, path: Path) -> pq.ParquetFile:
        """The open file; one at a time, since a run may have thousands of parts."""
        if self._open is None or self._open[0] != path:
            try:
                check_path_is_text(path)
                status = path.stat()
                if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for ever
                    raise self._damaged(path)
                file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
            except PermissionError as error:
                raise not_permitted(path) from error
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self._damaged(path) from error
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._stamps.setdefault(path, stamp) != stamp:
                raise StateError(f"{path} was replaced while it was read", hint="Try again.")
            if self._open is not None:
                self._open[1].close()
            self._open = (path, file)
        return self._open[1]

    def _damaged(self, path: Path) -> StateError:
        return StateError(f"{path} is damaged", hint=self._hint)
