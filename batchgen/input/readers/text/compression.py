"""Decompressed bytes of gzip and zstd files, which consist of one or more frames (gzip: members).

Both libraries' own file objects report bytes behind the last frame like a damaged frame. Here the frames are
decompressed one by one, so an error has its true cause. Empty frames, skippable zstd frames (pzstd, seekable zstd), zero
padding and BGZF are read.
"""

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Protocol

from batchgen.errors import DataError, ResourceError
from batchgen.input.files import InputFile

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK_BYTES = 1 << 18
"""Most bytes of a block. Memory and the rows of a batch depend on it."""
WINDOW_LIMIT = 1 << 31
"""Largest zstd window in bytes: that of `zstd --long=31`. Memory of the window is used only as far as data fill it."""

_RAW_BYTES = 1 << 16
_HEADER_BYTES = 18
"""Most bytes of the header of a zstd frame."""
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = tuple(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16))
MAGIC_BYTES = {"gzip": (_GZIP,), "zstd": (_ZSTD, *_SKIPPABLE)}
"""The first bytes of a frame, by compression."""
_AGAIN = "Wait if it is still being written. Otherwise download or write it again."


class _Decoder(Protocol):
    """Decoder of one frame. It keeps input that it has not decoded yet, if `max_length` was reached."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes:
        """The input behind the end of the frame."""

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _GzipDecoder:
    """zlib's decoder with the interface of zstd's."""

    def __init__(self) -> None:
        # 16 + 15: a gzip header and trailer, with any window.
        self._decoder = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        block = self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)
        self.needs_input = not (
            self.eof or self._decoder.unconsumed_tail or len(block) == max_length
        )
        return block


def decompressed(file: InputFile, raw: IO[bytes]) -> Iterator[bytes]:
    """Yield the content of all frames, in blocks of at most BLOCK_BYTES.

    Args:
        file: the file, gzip or zstd.
        raw: its bytes, open at their start.

    Raises:
        DataError: damage, an incomplete frame, bytes behind the last frame, or a zstd frame that needs a dictionary or a
            window beyond WINDOW_LIMIT.
        ResourceError: no memory for the window of a frame.
    """
    new_decoder = _zstd_decoder if file.compression == "zstd" else _gzip_decoder
    content = _Content(file, raw)
    while content.start_frame():
        yield from content.frame(new_decoder(file, content.ahead))


@dataclass(slots=True)
class _Content:
    """Raw bytes of a file with a position in them; `ahead` are the next ones."""

    file: InputFile
    raw: IO[bytes]
    ahead: bytes = b""
    done: int = 0

    def start_frame(self) -> bool:
        """Skip zero padding, and read the header of the next frame; False at the end of the file."""
        while not self.ahead.strip(b"\0"):
            self.ahead = b""
            if not self._read():
                return False
        self.ahead = self.ahead.lstrip(b"\0")
        while len(self.ahead) < _HEADER_BYTES and self._read():
            pass
        magic = MAGIC_BYTES[self.file.compression]
        if self.ahead.startswith(magic):
            return True
        if any(start.startswith(self.ahead) for start in magic):
            raise self._damaged()
        size = len(self.ahead) + sum(map(len, iter(lambda: self.raw.read(_RAW_BYTES), b"")))
        raise DataError(
            f"{self.file.path}: {size:,} bytes that are not {self.file.compression} data follow the end of the "
            f"{self.file.compression} data, after {self.done:,} decompressed bytes",
            hint="Compress all of the content, or remove these bytes, for example by unpacking and compressing again.",
        )

    def frame(self, decoder: _Decoder) -> Iterator[bytes]:
        data, self.ahead = self.ahead, b""
        while not decoder.eof:
            try:
                block = decoder.decompress(data, BLOCK_BYTES)
            except (zlib.error, zstd.ZstdError) as error:
                raise self._failed(error) from error
            data = b""
            if block:
                self.done += len(block)
                yield block
            elif decoder.needs_input:
                if not self._read():
                    raise self._damaged()
                data, self.ahead = self.ahead, b""
        self.ahead = decoder.unused_data

    def _read(self) -> bool:
        more = self.raw.read(_RAW_BYTES)
        self.ahead += more
        return bool(more)

    def _failed(self, error: Exception) -> DataError | ResourceError:
        if "not enough memory" in str(error):
            return ResourceError(
                f"{self.file.path}: not enough memory for the window of this zstd file",
                hint="Compress it again without --long, or give the process more memory.",
            )
        return self._damaged()

    def _damaged(self) -> DataError:
        return DataError(
            f"{self.file.path}: the {self.file.compression} data is damaged or incomplete after {self.done:,} "
            "decompressed bytes",
            hint=_AGAIN,
        )


def _gzip_decoder(_file: InputFile, _header: bytes) -> _Decoder:
    return _GzipDecoder()


def _zstd_decoder(file: InputFile, header: bytes) -> _Decoder:
    if header.startswith(_ZSTD):
        _check_frame(file, header)
    return zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: WINDOW_LIMIT.bit_length() - 1}
    )


def _check_frame(file: InputFile, header: bytes) -> None:
    """Raise DataError for a frame that is not damaged, but that the decoder cannot read."""
    if (window := _window_bytes(header)) > WINDOW_LIMIT:
        raise DataError(
            f"{file.path}: needs a zstd window of {window >> 20:,} MiB; the limit is {WINDOW_LIMIT >> 20:,} MiB",
            hint="Compress it again with --long=31 or less.",
        )
    try:
        dictionary = zstd.get_frame_info(header[:_HEADER_BYTES]).dictionary_id
    except zstd.ZstdError:
        return  # The decoder rejects this header too, as damaged.
    if dictionary:
        raise DataError(
            f"{file.path}: was compressed with the zstd dictionary {dictionary}",
            hint="Compress it again without a dictionary.",
        )


def _window_bytes(header: bytes) -> int:
    """The window that the header of a frame declares (RFC 8878, section 3.1.1.1); 0 for that of its content."""
    if len(header) < 6:
        return 0
    is_single_segment = header[4] & 0x20 != 0
    if is_single_segment:
        return 0
    exponent, mantissa = divmod(header[5], 8)
    base = 1 << (10 + exponent)
    return base + base // 8 * mantissa
