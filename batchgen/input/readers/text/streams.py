"""Decompressed bytes of a file in blocks, and their text."""

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.text.compression import BLOCK_BYTES, MAGIC_BYTES, decompressed
from batchgen.input.readers.text.encoding import count_lines, detected_encoding, new_decoder

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
    (b"\xfd7zXZ\0", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x1f\x9d", "compress"),
    (b"LZIP", "lzip"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"\xff\x06\0\0sNaPpY", "snappy"),
    (b"Obj\x01", "Avro"),
    (b"ARROW1\0\0", "Arrow IPC"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel 97 or encrypted Office"),
    (b"SQLite format 3\0", "SQLite"),
    (b"%PDF-", "PDF"),
)
_KIND_HINTS = {
    "gzip": "Rename it to end in .gz if it is compressed once. Otherwise unpack it.",
    "zstd": "Rename it to end in .zst if it is compressed once. Otherwise unpack it.",
    "Parquet": "Rename it to end in .parquet.",
    "zip": "Rename it to end in .xlsx if it is a workbook. Otherwise unpack it.",
    "Excel 97 or encrypted Office": "Save it as .xlsx without a password.",
}
_TAR = (257, b"ustar")
"""The position of the mark in the first header of an archive, and the mark."""


def byte_blocks(file: InputFile) -> Iterator[bytes]:
    """Yield the decompressed content of a file.

    Raises:
        DataError: unreadable, empty, damaged, incomplete, or in another format or compression than its name.
        ResourceError: no memory to decompress it.
    """
    is_empty = True
    with _read_errors(file):
        for block in _blocks(file):
            if is_empty:
                _check_content(file, block)
            is_empty = False
            yield block
    if is_empty:
        raise DataError(
            f"{file.path}: is empty (0 bytes when decompressed)",
            hint="Write it again with content, or leave it out of input.path.",
        )


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


def first_byte(file: InputFile, encoding: str) -> int | None:
    """The byte of the file at which its text begins; None if text cannot be read from a byte in its middle.

    That is so for compressed files, and for encodings in which the length of a text does not give its number of bytes.
    """
    if file.compression != "none" or encoding != "utf-8":
        return None
    mark = len(codecs.BOM_UTF8)
    with _read_errors(file), file.path.open("rb") as raw:
        at = 0
        while raw.read(mark) == codecs.BOM_UTF8:
            at += mark
    return at


def text_blocks(file: InputFile, encoding: str, start: int | None = None) -> Iterator[str]:
    """Yield the content as text, without byte order mark, with the line ends of the file.

    With `start`, only the content from this byte on, for files where `first_byte` is not None.

    Raises:
        DataError: bytes that are invalid in this encoding.
    """
    decoder = new_decoder(encoding)
    done = start or 0
    at_start = start is None
    blocks = byte_blocks(file) if start is None else _blocks_from(file, start)
    for block in chain(blocks, [b""]):  # the empty block ends the decoding
        try:
            done += len(block)
            text = decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise _undecodable(file, encoding, error, done) from error
        if at_start and text:
            text, at_start = text.lstrip("\ufeff"), False
        if text:
            yield text


def line_feed_blocks(file: InputFile) -> Iterator[str]:
    """Yield UTF-8 content as text with LF as the only line end; DataError as of `text_blocks`."""
    line_ends = io.IncrementalNewlineDecoder(None, translate=True)
    for text in text_blocks(file, "utf-8"):
        yield line_ends.decode(text)
    yield line_ends.decode("", final=True)


def _blocks_from(file: InputFile, start: int) -> Iterator[bytes]:
    with _read_errors(file), file.path.open("rb") as raw:
        raw.seek(start)
        yield from iter(lambda: raw.read(BLOCK_BYTES), b"")


@contextmanager
def _read_errors(file: InputFile) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror}") from error


def _blocks(file: InputFile) -> Iterator[bytes]:
    with file.path.open("rb") as raw:
        _check_compression(file, raw.read(64))
        raw.seek(0)
        if file.compression == "none":
            yield from iter(lambda: raw.read(BLOCK_BYTES), b"")
        else:
            yield from decompressed(file, raw)


def _kind(start: bytes) -> str | None:
    """The binary format of some content; None for text."""
    if start.startswith(MAGIC_BYTES["zstd"]):
        return "zstd"
    at, mark = _TAR
    if start[at:].startswith(mark):
        return "tar"
    return next((name for magic, name in _MAGIC if start.startswith(magic)), None)


def _check_compression(file: InputFile, start: bytes) -> None:
    if not start:
        raise DataError(
            f"{file.path}: is empty (0 bytes)", hint="Wait if it is still being written."
        )
    if file.compression not in ("none", found := _kind(start)):
        raise DataError(
            f"{file.path}: is {f'{found} data' if found else 'not compressed'}, not {file.compression} data, "
            "despite its name",
            hint="Rename the file.",
        )


def _check_content(file: InputFile, block: bytes) -> None:
    if (found := _kind(block)) is not None:
        inside = "" if file.compression == "none" else f" inside {file.compression}"
        raise DataError(
            f"{file.path}: is {found} data{inside}; expected plain {file.format} text",
            hint=_KIND_HINTS.get(found, "Unpack or export it first."),
        )


def _undecodable(file: InputFile, encoding: str, error: UnicodeError, done: int) -> DataError:
    """The error for an invalid byte in the last block of the `done` bytes that were read."""
    line, byte = 1, ""
    if isinstance(error, UnicodeDecodeError):
        before = _first_bytes(file, done - len(error.object) + error.start)
        line += count_lines(codecs.iterdecode(before, encoding, "replace"))
        byte = f" (byte 0x{error.object[error.start]:02x})" if error.object[error.start :] else ""
    hint = "Set input.csv.encoding, such as to gb18030 or latin-1."
    if file.format != "csv":
        hint = "Convert the file to UTF-8."
        if found := detected_encoding(read_head(file)):
            hint = f"Convert the file to UTF-8, for example with: iconv -f {found} -t utf-8"
    return DataError(f"{file.path}:{line}: is not {encoding} text{byte}", hint=hint)


def _first_bytes(file: InputFile, size: int) -> Iterator[bytes]:
    for block in byte_blocks(file):
        if size <= 0:
            return
        yield block[:size]
        size -= len(block)
