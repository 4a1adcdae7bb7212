"""Bytes of a file, unpacked, in blocks; and their text. Knows nothing of lines, columns or rows."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from typing import IO, Protocol

import pyarrow as pa

from batchgen.errors import DataError
from batchgen.input.files import InputFile

BLOCK_BYTES = 1 << 18
"""Bytes that are read at a time. Memory, and the rows of a batch, follow from it."""
HEAD_BYTES = 1 << 20
"""Bytes, unpacked, that decide about encoding, delimiter and columns."""
CELL_LIMIT = 1_000_000
"""Most characters in one cell."""
LINE_LIMIT = 16_000_000
"""Most characters in one line of text."""

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"PAR1", "Parquet"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def byte_blocks(file: InputFile) -> Iterator[bytes]:
    """The content of a file without its compression.

    Raises:
        DataError: unreadable, damaged, cut off, or packed otherwise than its name says.
    """
    done = 0
    try:
        with file.path.open("rb") as raw:
            _check_packing(file, raw.read(8))
            raw.seek(0)
            unpacked = _unpacked(file, raw)
            while block := unpacked.read(BLOCK_BYTES):
                done += len(block)
                yield block
    except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowException) as error:
        raise _damaged(file, done) from error
    except OSError as error:
        # Arrow reports a damaged zstd stream as an OSError without a number.
        if error.errno is None:
            raise _damaged(file, done) from error
        raise DataError(f"{file.path}: cannot be read: {error.strerror}") from error


def read_head(file: InputFile) -> bytes:
    """The first HEAD_BYTES of the content, or all of it if there is less."""
    blocks: list[bytes] = []
    size = 0
    for block in byte_blocks(file):
        blocks.append(block)
        size += len(block)
        if size >= HEAD_BYTES:
            break
    return b"".join(blocks)[:HEAD_BYTES]


def text_blocks(file: InputFile, encoding: str) -> Iterator[str]:
    """The content as text, without byte order mark. Line ends are as in the file.

    Raises:
        DataError: bytes that are not of this encoding, with the line they are in.
    """
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    done = 0
    start = True
    for block in _with_end(byte_blocks(file)):
        try:
            done += len(block)
            text = decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise _undecodable(file, encoding, error, done) from error
        if start and text:
            text, start = text.removeprefix("\ufeff"), False
        if text:
            yield text


def _with_end(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks, then an empty one, which tells a decoder to close."""
    yield from blocks
    yield b""


def _unpacked(file: InputFile, raw: IO[bytes]) -> _Readable:
    if file.compression == "gzip":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if file.compression == "zstd":
        unpacked: _Readable = pa.CompressedInputStream(raw, "zstd")
        return unpacked
    return raw


def _check_packing(file: InputFile, start: bytes) -> None:
    found = next((name for magic, name in _MAGIC if start.startswith(magic)), "none")
    if not start:
        raise DataError(f"{file.path}: is empty (0 bytes)", hint="Is it still being written?")
    if file.compression not in (found, "none"):
        raise DataError(
            f"{file.path}: is not {file.compression} data, despite its name",
            hint="Name it as what it is.",
        )
    if file.compression == "none" and found != "none":
        raise DataError(
            f"{file.path}: is {found} data; expected plain {file.format} text",
            hint="Name it as what it is (.gz, .zst, .parquet), or unpack it.",
        )


def _damaged(file: InputFile, done: int) -> DataError:
    return DataError(
        f"{file.path}: the {file.compression} data is damaged or cut off after {done:,} unpacked bytes",
        hint="Is it still being written? Otherwise fetch or make it again.",
    )


def _undecodable(file: InputFile, encoding: str, error: UnicodeError, done: int) -> DataError:
    """The error for a byte among the last of the `done` ones that were read."""
    line, found = 1, ""
    if isinstance(error, UnicodeDecodeError):
        before = _first(file, done - len(error.object) + error.start)
        texts = codecs.iterdecode(before, encoding, "replace")
        line += sum(text.count("\n") for text in texts)
        found = f" (byte 0x{error.object[error.start]:02x})" if error.object[error.start :] else ""
    hint = "Name the encoding in input.csv.encoding, such as gb18030 or latin-1."
    if file.format == "jsonl":
        hint = "JSONL is UTF-8 text: convert the file."
    return DataError(f"{file.path}:{line}: is not {encoding} text{found}", hint=hint)


def _first(file: InputFile, size: int) -> Iterator[bytes]:
    """The blocks that make up the first `size` bytes of the content."""
    for block in byte_blocks(file):
        if size <= 0:
            return
        yield block[:size]
        size -= len(block)
