import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from batchgen.errors import ModelError
from batchgen.storage.safetensors_header import read_safetensors_header


def raw(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[object], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_the_header_lists_every_written_tensor(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    written: dict[str, Any] = {
        "b": np.zeros((2, 3), np.float32),
        "a": np.zeros(5, np.int8),
        "scalar": np.zeros((), np.float16),
        "empty": np.zeros((0, 4), np.float32),
    }
    save_file(written, file, metadata={"format": "pt"})

    header = read_safetensors_header(file)

    assert {t.name: t.shape for t in header.tensors} == {n: a.shape for n, a in written.items()}
    assert {t.name: t.elements for t in header.tensors} == {n: a.size for n, a in written.items()}
    assert {t.name: t.dtype for t in header.tensors} == {
        "b": "F32", "a": "I8", "scalar": "F16", "empty": "F32",
    }  # fmt: skip
    assert header.size == file.stat().st_size
    assert header.size - header.data_start == sum(array.nbytes for array in written.values())


BROKEN = {
    "empty file": b"",
    "header length cut": b"\x01\x00",
    "huge header": raw({}, length=10**12),
    "header cut": raw({"a": entry([1], 0, 4)}, length=5000),
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "pickle": b"\x80\x02}q\x00." + b"0" * 64,
    "not JSON": raw(b"{]"),
    "not UTF-8": raw(b'{"\xff": 1}'),
    "a list": raw([]),
    "nested deeply": raw(b"[" * 200_000),
    "tensor without shape": raw({"a": {"dtype": "F32"}}),
    "tensor that is a number": raw({"a": 3}),
    "negative shape": raw({"a": entry([-1], 0, 4)}, b"1234"),
    "shape that is text": raw({"a": entry(["1"], 0, 4)}, b"1234"),
    "bytes that do not fill the shape": raw({"a": entry([2], 0, 4)}, b"1234"),
    "hole before the tensor": raw({"a": entry([1], 4, 8)}, b"12345678"),
    "overlap": raw({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"1234"),
    "data cut": raw({"a": entry([2], 0, 8)}, b"1234567"),
    "bytes left over": raw({"a": entry([1], 0, 4)}, b"12345"),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_damaged_file_is_an_error_with_its_name_and_a_hint(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)

    with pytest.raises(ModelError, match="truncated or not a safetensors file") as caught:
        read_safetensors_header(file)

    assert caught.value.message.startswith(f"{file}: ")
    assert f"({len(content):,} bytes)" in caught.value.message
    assert caught.value.hint


def test_the_error_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.safetensors"):
        read_safetensors_header(tmp_path / "gone.safetensors")
