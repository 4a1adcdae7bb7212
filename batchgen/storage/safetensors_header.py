"""Names, dtypes and shapes of the tensors of a safetensors file, without reading its data."""

import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from batchgen.errors import ModelError

LENGTH_BYTES = 8
"""The file starts with the length of its header: 8 bytes, little endian (specification of the format)."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file; `dtype` is the format's name, such as BF16."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The product of the shape; 1 for a scalar."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """The tensors of one file; `data_start` is the offset in bytes of the first one's data."""

    file: Path
    size: int
    data_start: int
    tensors: tuple[TensorEntry, ...]


def read_safetensors_header(file: Path) -> SafetensorsHeader:
    """Read the header; the library checks that the offsets cover the file exactly.

    Raises:
        ModelError: the file is truncated or is not a safetensors file.
    """
    try:
        size = file.stat().st_size
        with file.open(
            "rb"
        ) as raw:  # first: the library reports every error of the file system as a missing file
            length = int.from_bytes(raw.read(LENGTH_BYTES), "little")
        with safe_open(file, framework="np") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  (not a mapping)
            tensors = tuple(
                TensorEntry(name, part.get_dtype(), tuple(part.get_shape()))
                for name, part in slices.items()
            )
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(
            f"{file}: truncated or not a safetensors file ({file.stat().st_size:,} bytes): {str(error)[:300]}",
            hint="Download or copy the file again.",
        ) from error
    return SafetensorsHeader(file, size, LENGTH_BYTES + length, tensors)
