"""Reads tensors of safetensors files into memory of their own, converted to another dtype while they are read.

transformers maps the files: their pages stay in memory until the last tensor is read, and a tensor that is converted
exists in both dtypes. Here every tensor is read in blocks, straight into its place.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import EllipsisType
from typing import Any, Self

import torch
from torch import Tensor
from transformers import modeling_utils

BLOCK_BYTES = 1 << 20
"""Read at a time. Larger blocks are not faster, and free memory in larger pieces than the C library gives back."""
_LENGTH_BYTES = 8
_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@contextmanager
def tensors_read_once(dtype: torch.dtype | str, *, narrowing: bool) -> Iterator[None]:
    """In this block transformers reads tensors by this module.

    Args:
        dtype: of the model; "auto" for that of the files.
        narrowing: whether also tensors that lose digits in `dtype` are converted while they are read; where a model
            keeps some tensors in float32, transformers must convert them.
    """
    target = dtype if isinstance(dtype, torch.dtype) else None
    library: Any = modeling_utils
    original = getattr(library, "safe_open", None)
    if original is None:  # another version of transformers: it reads the tensors itself
        yield
        return

    def opened(file: str | Path, *arguments: Any, **options: Any) -> object:  # noqa: ANN401  (as safe_open)
        return _TensorFile(
            original(file, *arguments, **options), Path(file), target, narrowing=narrowing
        )

    library.safe_open = opened
    try:
        yield
    finally:
        modeling_utils.safe_open = original  # type: ignore[attr-defined]


class _TensorFile:
    """A file as `safe_open` opens it, but for its tensors."""

    def __init__(
        self,
        opened: Any,  # noqa: ANN401  (safe_open, which has no types)
        file: Path,
        target: torch.dtype | None,
        *,
        narrowing: bool,
    ) -> None:
        self._opened, self._file, self._target, self._narrowing = opened, file, target, narrowing
        with file.open("rb") as raw:
            length = int.from_bytes(raw.read(_LENGTH_BYTES), "little")
            self._entries: dict[str, Any] = json.loads(raw.read(length))
        self._start = _LENGTH_BYTES + length

    def __enter__(self) -> Self:
        self._opened.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.__exit__(*error)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (any attribute of safe_open)
        return getattr(self._opened, name)

    def get_slice(self, name: str) -> object:
        part, entry = self._opened.get_slice(name), self._entries[name]
        stored = _FLOATS.get(entry["dtype"])
        if stored is None:
            return part
        made = self._dtype_of(stored)
        offset = self._start + entry["data_offsets"][0]
        return _TensorSlice(part, self._file, offset, stored=stored, made=made)

    def _dtype_of(self, stored: torch.dtype) -> torch.dtype:
        if self._target is None or not (self._target == torch.float32 or self._narrowing):
            return stored
        return self._target


class _TensorSlice:
    """A tensor that is read when all of it is needed."""

    def __init__(
        self,
        part: Any,  # noqa: ANN401  (a slice of safe_open)
        file: Path,
        offset: int,
        *,
        stored: torch.dtype,
        made: torch.dtype,
    ) -> None:
        self._part, self._file, self._offset = part, file, offset
        self._stored, self._made = stored, made

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (any attribute of a slice)
        return getattr(self._part, name)

    def __getitem__(self, index: object) -> Tensor:
        if not isinstance(index, EllipsisType):
            part: Tensor = self._part[index]
            return part
        tensor = torch.empty(self._part.get_shape(), dtype=self._made)
        flat = tensor.view(-1)
        block = torch.empty(BLOCK_BYTES // self._stored.itemsize, dtype=self._stored)
        with self._file.open("rb", buffering=0) as raw:
            raw.seek(self._offset)
            for at in range(0, len(flat), len(block)):
                place = flat[at : at + len(block)]
                read = place if self._made == self._stored else block[: len(place)]
                _fill(raw, read)
                if read is not place:
                    place.copy_(read)
        return tensor


def _fill(raw: Any, tensor: Tensor) -> None:  # noqa: ANN401  (a file without a buffer)
    """Read the bytes of a tensor in one dimension. Raises EOFError if the file ends before."""
    data: Any = tensor.view(torch.uint8).numpy()
    left = memoryview(data)
    while left:
        count = raw.readinto(left)
        if not count:
            raise EOFError(f"{raw.name} is truncated")
        left = left[count:]
