"""Checks of a Parquet file by its footer, before pyarrow reads it."""

import pyarrow as pa

from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.parquet_footer import Footer, FooterError, parse_footer

UNPACK_FLOOR = 1 << 30
"""A file may always unpack to this many bytes."""
REPEAT_RATIO = 10_000
"""Most bytes of cells for each byte of a larger file: a dictionary stores an equal text once."""
PAGE_RATIO = 1_000
"""Most bytes of decompressed pages for each byte of a larger file."""
AGAIN = "Wait if it is still being written. Otherwise download or write it again."

_MAGIC = b"PAR1"
_ENCRYPTED = b"PARE"
_SMALLEST = 12
_CODECS = ("none", "snappy", "gzip", "lzo", "brotli", "lz4", "zstd", "lz4_raw")
"""In the order of their numbers in parquet-format."""
_NO_KEYS = "Write it without encryption."


def read_footer(file: InputFile) -> Footer:
    """Read and check a footer.

    Raises:
        DataError: not a complete Parquet file, encrypted, in a compression that cannot be read, counts that contradict each
            other, or more content than a file of this size is expected to unpack to.
    """
    try:
        footer = parse_footer(_footer_bytes(file))
    except FooterError as error:
        raise damaged_footer(file, str(error)) from error
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror}") from error
    _check_readable(file, footer)
    rows = sum(group.rows for group in footer.groups)
    if rows != footer.rows:
        raise damaged_footer(file, f"{footer.rows:,} rows, but {rows:,} in its row groups")
    _check_size(file, footer)
    return footer


def damaged_footer(file: InputFile, cause: str) -> DataError:
    """The error for a footer that cannot be used."""
    return DataError(f"{file.path}: its Parquet footer cannot be read: {cause}", hint=AGAIN)


def most_cell_bytes(file: InputFile) -> int:
    """Most bytes that the cells of a file may have."""
    return max(UNPACK_FLOOR, REPEAT_RATIO * file.size)


def too_large(file: InputFile, limit: int) -> DataError:
    """The error for content beyond a limit in bytes."""
    return DataError(
        f"{file.path}: {file.size:,} bytes that unpack to more than {limit >> 20:,} MiB",
        hint="Check where this file comes from. If it is as intended, split it into files with fewer rows.",
    )


def _footer_bytes(file: InputFile) -> bytes:
    with file.path.open("rb") as stream:
        start = stream.read(4)
        stream.seek(max(0, file.size - 8))
        length, end = stream.read(4), stream.read(4)
        _check_ends(file, start, end)
        size = int.from_bytes(length, "little")
        if size > file.size - _SMALLEST:
            raise FooterError(f"its length is {size:,} bytes in a file of {file.size:,} bytes")
        stream.seek(file.size - 8 - size)
        return stream.read(size)


def _check_ends(file: InputFile, start: bytes, end: bytes) -> None:
    if not start:
        raise DataError(f"{file.path}: is empty (0 bytes), not a complete Parquet file", hint=AGAIN)
    if _ENCRYPTED in {start, end}:
        raise DataError(f"{file.path}: is encrypted Parquet", hint=_NO_KEYS)
    if start != _MAGIC:
        raise DataError(
            f"{file.path}: is not a Parquet file: it begins with {start!r}, not {_MAGIC!r}",
            hint="Set input.format if it is another format.",
        )
    if end != _MAGIC or file.size < _SMALLEST:
        raise DataError(
            f"{file.path}: is not a complete Parquet file ({file.size:,} bytes, the footer is missing)",
            hint=AGAIN,
        )


def _check_readable(file: InputFile, footer: Footer) -> None:
    columns = [column for group in footer.groups for column in group.columns]
    if any(column.is_encrypted for column in columns):
        raise DataError(f"{file.path}: has encrypted columns", hint=_NO_KEYS)
    if any(column.is_elsewhere for column in columns):
        raise DataError(
            f"{file.path}: has columns in another file, as a _metadata file has",
            hint="Give the files with the data in input.path.",
        )
    for codec in sorted({column.codec for column in columns}):
        name = _CODECS[codec] if codec < len(_CODECS) else f"number {codec}"
        if not _is_available(name):
            raise DataError(
                f"{file.path}: is compressed with the codec {name}, which cannot be read",
                hint="Write it with zstd, snappy or gzip.",
            )


def _is_available(codec: str) -> bool:
    if codec == "none":
        return True
    try:
        return bool(pa.Codec.is_available(codec))
    except ValueError:
        return False


def _check_size(file: InputFile, footer: Footer) -> None:
    columns = [column for group in footer.groups for column in group.columns]
    pages = max(UNPACK_FLOOR, PAGE_RATIO * file.size)
    if sum(column.unpacked_bytes for column in columns) > pages:
        raise too_large(file, pages)
    cells = most_cell_bytes(file)
    if sum(column.values for column in columns) > cells or footer.rows > cells:
        raise too_large(file, cells)
