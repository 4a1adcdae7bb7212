"""What a safetensors file holds, read from its header: names, dtypes and shapes, never the numbers.

The layout, from the format's specification: 8 bytes, little endian, the length of the header; the header, JSON,
name to {dtype, shape, data_offsets}; then the data without holes. Knows nothing of models.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ModelError

LENGTH_BYTES = 8
LONGEST_HEADER = 100_000_000
"""The limit of the safetensors library itself."""
SAMPLES = 256
SAMPLE_BYTES = 4096
BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One entry of a header; `begin` and `end` are bytes from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """What the header of one file says; the data is known to be there in full length."""

    file: Path
    size: int
    data_start: int
    tensors: tuple[TensorEntry, ...]


def read_safetensors_header(file: Path) -> SafetensorsHeader:
    """Read and check the header of a safetensors file; a few kilobytes are read, whatever the file's size.

    Raises:
        ModelError: the file is cut short, or is no safetensors file; the message names it.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
            _check_length(file, size, length)
            raw = opened.read(length)
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror or error}") from error
    header = SafetensorsHeader(file, size, LENGTH_BYTES + length, _tensors(file, raw))
    _check_data(header)
    return header


def sampled_digest(header: SafetensorsHeader) -> str:
    """A SHA-256 over the file's size, its header and up to 256 blocks of 4 KiB spread evenly over its data.

    It tells apart two trainings of one architecture without reading gigabytes. It is no proof: a change between the
    blocks goes unseen.
    """
    digest = hashlib.sha256(str(header.size).encode())
    with header.file.open("rb") as opened:
        digest.update(opened.read(header.data_start))
        length = header.size - header.data_start
        step = max(SAMPLE_BYTES, length // SAMPLES)
        for place in range(header.data_start, header.size, step):
            opened.seek(place)
            digest.update(opened.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _check_length(file: Path, size: int, length: int) -> None:
    if size < LENGTH_BYTES or length > LONGEST_HEADER:
        raise ModelError(
            f"{file}: not a safetensors file ({size:,} bytes, and a header of {length:,} bytes)",
            hint="fetch the file again",
        )
    if LENGTH_BYTES + length > size:
        raise _cut_short(file, size, LENGTH_BYTES + length)


def _cut_short(file: Path, size: int, expected: int) -> ModelError:
    return ModelError(
        f"{file}: cut short: {size:,} bytes, expected {expected:,}",
        hint="the download or copy was not finished: fetch the file again",
    )


def _tensors(file: Path, raw: bytes) -> tuple[TensorEntry, ...]:
    try:
        entries = json.loads(raw)
        if not isinstance(entries, dict):
            raise TypeError("the header is no mapping")  # noqa: TRY301  (one message for every nonsense)
        return tuple(sorted(_entries(entries), key=lambda t: (t.begin, t.end)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{file}: the safetensors header makes no sense ({type(error).__name__}: {error})"[
                :500
            ],
            hint="fetch the file again",
        ) from error


def _entries(entries: Mapping[str, object]) -> Iterable[TensorEntry]:
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict):
            raise TypeError(f"tensor {name!r} is no mapping")
        shape = tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        if any(type(n) is not int or n < 0 for n in (*shape, begin, end)):
            raise ValueError(f"tensor {name!r} has a shape or place that is no natural number")
        tensor = TensorEntry(name, str(entry["dtype"]), shape, begin, end)
        bits = BITS.get(tensor.dtype)
        if bits is not None and tensor.elements * bits != (end - begin) * 8:
            raise ValueError(
                f"tensor {name!r} has {end - begin} bytes, which its shape does not fill"
            )
        yield tensor


def _check_data(header: SafetensorsHeader) -> None:
    place = 0
    for tensor in header.tensors:
        if tensor.begin != place:
            raise ModelError(
                f"{header.file}: the safetensors header makes no sense (tensor {tensor.name!r} begins at "
                f"{tensor.begin}, expected {place})",
                hint="fetch the file again",
            )
        place = tensor.end
    if header.data_start + place > header.size:
        raise _cut_short(header.file, header.size, header.data_start + place)
    if header.data_start + place < header.size:
        raise ModelError(
            f"{header.file}: {header.size - header.data_start - place:,} bytes that belong to no tensor",
            hint="fetch the file again",
        )
