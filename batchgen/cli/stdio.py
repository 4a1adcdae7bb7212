"""stdout and stderr that are named in write errors: the system's errors do not name the stream."""

import io
import sys
from typing import TextIO

NAMES = ("<stdout>", "<stderr>")
"""The `filename` of such an error."""


class NamedStream(io.TextIOWrapper):
    """A stream whose write errors carry its name as `filename`."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.name) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.name) from error


def name_streams() -> None:
    """Replace stdout and stderr by a `NamedStream` each, if the process has them."""
    sys.stdout, sys.stderr = _named(sys.stdout), _named(sys.stderr)


def _named(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    return NamedStream(
        stream.buffer,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
