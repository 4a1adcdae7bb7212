import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from batchgen.errors import ModelError
from batchgen.models.safetensors_header import read_safetensors_header, sampled_digest


def raw(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[object], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_names_dtypes_shapes_and_places_are_those_the_library_wrote(tmp_path: Path) -> None:
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
    assert {t.name: t.end - t.begin for t in header.tensors} == {
        n: a.nbytes for n, a in written.items()
    }
    assert header.data_start + max(t.end for t in header.tensors) == file.stat().st_size


BROKEN = {
    "empty file": (b"", "not a safetensors file"),
    "header length cut": (b"\x01\x00", "not a safetensors file"),
    "huge header": (raw({}, length=10**12), "not a safetensors file"),
    "header cut": (raw({"a": entry([1], 0, 4)}, length=5000), "cut short"),
    "not JSON": (raw(b"{]"), "makes no sense"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "makes no sense"),
    "a list": (raw([]), "makes no sense"),
    "nested beyond reason": (raw(b"[" * 200_000), "makes no sense"),
    "tensor without shape": (raw({"a": {"dtype": "F32"}}), "makes no sense"),
    "tensor that is a number": (raw({"a": 3}), "makes no sense"),
    "negative shape": (raw({"a": entry([-1], 0, 4)}, b"1234"), "makes no sense"),
    "shape that is text": (raw({"a": entry(["1"], 0, 4)}, b"1234"), "makes no sense"),
    "bytes that do not fill the shape": (raw({"a": entry([2], 0, 4)}, b"1234"), "makes no sense"),
    "hole before the tensor": (raw({"a": entry([1], 4, 8)}, b"12345678"), "begins at"),
    "overlap": (raw({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"1234"), "begins at"),
    "data cut": (raw({"a": entry([2], 0, 8)}, b"1234567"), "cut short"),
    "bytes left over": (raw({"a": entry([1], 0, 4)}, b"12345"), "belong to no tensor"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_damaged_file_is_refused_by_name_as_the_library_would_refuse_it(
    tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)

    with pytest.raises(ModelError, match=said) as caught:
        read_safetensors_header(file)

    assert str(file) in caught.value.message
    assert caught.value.hint
    with pytest.raises(SafetensorError), safe_open(file, framework="np"):
        pass


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.safetensors"):
        read_safetensors_header(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("place", [0, 7, 250_000, 999_999])
def test_the_digest_tells_two_trainings_apart_though_their_headers_are_equal(
    tmp_path: Path, place: int
) -> None:
    """A training moves nearly every number; here a stretch of 20 KB, wherever it is."""
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    numbers = np.zeros(1_000_000, np.float32)
    save_file({"a": numbers}, before)
    numbers[max(0, place - 5_000) : place + 5_000] = 1
    save_file({"a": numbers}, after)

    digests = {sampled_digest(read_safetensors_header(file)) for file in (before, after)}

    assert len(digests) == 2
    assert sampled_digest(read_safetensors_header(before)) in digests
