"""stdout and stderr of the process, named in the errors of writing to them: the system's own names no file."""

import io
import sys
from typing import TextIO

NAMES = ("<stdout>", "<stderr>")
"""What the `filename` of such an error is."""


class NamedStream(io.TextIOWrapper):
    """A stream whose errors carry its name."""

    def write(self, text: str, /) -> int:
        """Write; see the class."""
        try:
            return super().write(text)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.name) from error

    def flush(self) -> None:
        """Flush; see the class."""
        try:
            super().flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.name) from error


def name_streams() -> None:
    """Put a `NamedStream` in the place of stdout and stderr, where the process has them."""
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
