"""stdout and stderr of the command line: a write never raises, and what the terminal cannot encode is escaped.

A reader that is gone (`| head`), a closed stream (`>&-`), a full disk (`> log`) or a terminal with another encoding ends no
command: the exit code is the command's own, and files that it writes are complete.
"""

import codecs
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_NO_READER = (errno.EPIPE, errno.EIO)
"""EIO: the terminal is gone."""

_ERROR_HANDLER = "batchgen.escape"
_ASCII_CODEC = "batchgen_ascii"
"""ASCII by another name: click replaces a stream whose encoding is called ASCII, and writes UTF-8 instead."""

_ASCII = {"─": "-", "…": "...", "·": "-", "↑": "^", "↓": "v", "×": "x", "│": "|", "±": "+/-"}
"""Signs of our own output, for terminals that lack them."""


class _Descriptor(io.FileIO):
    """A file descriptor whose bytes are discarded after the first write that failed.

    Attributes:
        failure: why writes fail; empty if none failed, or nobody was left to read.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.failure = ""
        self._discards = False

    def write(self, data: "Buffer", /) -> int:
        size = memoryview(data).nbytes
        while not self._discards:
            try:
                return os.write(self.fileno(), data)
            except BlockingIOError:
                # Another process has made a shared pipe non-blocking.
                select.select([], [self.fileno()], [])
            except OSError as error:
                self._discards = True
                gone = error.errno in _NO_READER
                self.failure = "" if gone else error.strerror or str(error)
        return size


class OutputStreams:
    """stdout and stderr of this process, replaced by streams that never raise."""

    def __init__(self) -> None:
        _open_closed_descriptors()
        codecs.register_error(_ERROR_HANDLER, _escape)
        codecs.register(_find_codec)
        self._stdout, self._stderr = _Descriptor(_STDOUT), _Descriptor(_STDERR)
        sys.stdout = _text_stream(self._stdout, sys.stdout)
        sys.stderr = _text_stream(self._stderr, sys.stderr)
        if sys.stdin is None:
            sys.stdin = open(_STDIN, closefd=False, encoding="utf-8")  # noqa: SIM115  # it stays open

    def flush(self) -> str:
        """Flush both; return why stdout is incomplete, empty if it is complete or nobody was left to read."""
        sys.stdout.flush()
        sys.stderr.flush()
        return self._stdout.failure


def _open_closed_descriptors() -> None:
    """Connect descriptors that are closed to nothing: the next file to be opened would get their number."""
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


def _text_stream(descriptor: _Descriptor, old: TextIO | None) -> TextIO:
    encoding, errors = "utf-8", "strict"
    if isinstance(old, io.TextIOWrapper):
        encoding, errors = old.encoding, old.errors or errors
    if codecs.lookup(encoding).name == "ascii":
        encoding = _ASCII_CODEC
    # What PYTHONIOENCODING names is kept.
    chosen = errors not in ("strict", "surrogateescape", "backslashreplace")
    return io.TextIOWrapper(
        io.BufferedWriter(descriptor),
        encoding=encoding,
        errors=errors if chosen else _ERROR_HANDLER,
        line_buffering=descriptor.isatty() or descriptor.fileno() == _STDERR,
        write_through=isinstance(old, io.TextIOWrapper) and old.write_through,
    )


def _find_codec(name: str) -> codecs.CodecInfo | None:
    if name != _ASCII_CODEC:
        return None
    ascii_codec = codecs.lookup("ascii")
    return codecs.CodecInfo(
        name=name,
        encode=ascii_codec.encode,
        decode=ascii_codec.decode,
        incrementalencoder=ascii_codec.incrementalencoder,
        incrementaldecoder=ascii_codec.incrementaldecoder,
    )


def _escape(error: UnicodeError) -> tuple[str, int]:
    r"""Error handler of an encoder: a similar ASCII character, or an escape such as \u4f60."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    escaped = [_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in bad]
    return "".join(escaped), error.end
