"""Decompressed bytes of a file in blocks, and their text."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import IO, Protocol

import pyarrow as pa

from batchgen.errors import DataError
from batchgen.input.files import InputFile

BLOCK_BYTES = 1 << 18
"""Bytes of a block. Memory and the rows of a batch depend on it."""
HEAD_BYTES = 1 << 20
"""Decompressed bytes for the detection of encoding, delimiter and columns."""
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
    """Yield the decompressed content of a file.

    Raises:
        DataError: unreadable, damaged, incomplete, or in another compression than its name.
    """
    done = 0
    try:
        with file.path.open("rb") as raw:
            _check_compression(file, raw.read(8))
            raw.seek(0)
            stream = _decompressed(file, raw)
            while block := stream.read(BLOCK_BYTES):
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
    """The first HEAD_BYTES of the decompressed content."""
    blocks: list[bytes] = []
    size = 0
    for block in byte_blocks(file):
        blocks.append(block)
        size += len(block)
        if size >= HEAD_BYTES:
            break
    return b"".join(blocks)[:HEAD_BYTES]


def text_blocks(file: InputFile, encoding: str) -> Iterator[str]:
    """Yield the content as text, without byte order mark, with the line ends of the file.

    Raises:
        DataError: bytes that are invalid in this encoding.
    """
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    done = 0
    start = True
    for block in chain(byte_blocks(file), [b""]):  # the empty block ends the decoding
        try:
            done += len(block)
            text = decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise _undecodable(file, encoding, error, done) from error
        if start and text:
            text, start = text.removeprefix("\ufeff"), False
        if text:
            yield text


def _decompressed(file: InputFile, raw: IO[bytes]) -> _Readable:
    if file.compression == "gzip":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if file.compression == "zstd":
        stream: _Readable = pa.CompressedInputStream(raw, "zstd")
        return stream
    return raw


def _check_compression(file: InputFile, start: bytes) -> None:
    found = next((name for magic, name in _MAGIC if start.startswith(magic)), "none")
    if not start:
        raise DataError(
            f"{file.path}: is empty (0 bytes)", hint="Wait if it is still being written."
        )
    if file.compression not in (found, "none"):
        raise DataError(
            f"{file.path}: is not {file.compression} data, despite its name",
            hint="Rename the file.",
        )
    if file.compression == "none" and found != "none":
        raise DataError(
            f"{file.path}: is {found} data; expected plain {file.format} text",
            hint="Rename it (.gz, .zst, .parquet), or unpack it.",
        )


def _damaged(file: InputFile, done: int) -> DataError:
    return DataError(
        f"{file.path}: the {file.compression} data is damaged or incomplete after {done:,} decompressed bytes",
        hint="Wait if it is still being written. Otherwise download or write it again.",
    )


def _undecodable(file: InputFile, encoding: str, error: UnicodeError, done: int) -> DataError:
    """The error for an invalid byte in the last block of the `done` bytes that were read."""
    line, byte = 1, ""
    if isinstance(error, UnicodeDecodeError):
        before = _first_bytes(file, done - len(error.object) + error.start)
        texts = codecs.iterdecode(before, encoding, "replace")
        line += sum(text.count("\n") for text in texts)
        byte = f" (byte 0x{error.object[error.start]:02x})" if error.object[error.start :] else ""
    hint = "Set input.csv.encoding, such as to gb18030 or latin-1."
    if file.format == "jsonl":
        hint = "Convert the file to UTF-8."
    return DataError(f"{file.path}:{line}: is not {encoding} text{byte}", hint=hint)


def _first_bytes(file: InputFile, size: int) -> Iterator[bytes]:
    for block in byte_blocks(file):
        if size <= 0:
            return
        yield block[:size]
        size -= len(block)
