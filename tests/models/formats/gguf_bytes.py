"""GGUF files written byte by byte: only what a header has, and zeros for the tensors."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VALUES: dict[str, Any] = {
    "general.architecture": "llama",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": ["a", "b"],
    "tokenizer.ggml.scores": [0.5, 0.25],
    "llama.context_length": 64,
}
TENSORS: dict[str, tuple[int, tuple[int, ...]]] = {
    "token_embd.weight": (8, (64, 2)),
    "output_norm.weight": (0, (64,)),
}
"""By name: the type's number, and the sizes."""
_BLOCKS = {0: (1, 4), 8: (32, 34)}


def gguf_bytes(
    values: Mapping[str, Any] = VALUES,
    tensors: Mapping[str, tuple[int, tuple[int, ...]]] = TENSORS,
    *,
    version: int = 3,
) -> bytes:
    data = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    data += b"".join(_text(key) + _value(value) for key, value in values.items())
    offset = 0
    for name, (kind, sizes) in tensors.items():
        data += _text(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        data += struct.pack("<IQ", kind, offset)
        elements, block = _BLOCKS.get(kind, (1, 1))
        number = 1
        for size in sizes:
            number *= size
        offset += -(-number // elements * block // 32) * 32
    start = -(-len(data) // 32) * 32
    return data.ljust(start + offset, b"\0")


def write_gguf_bytes(file: Path, **changes: Any) -> Path:
    """A small llama whose values are changed; None removes one."""
    values = {key: value for key, value in {**VALUES, **changes}.items() if value is not None}
    file.write_bytes(gguf_bytes(values))
    return file


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, list) and isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    if isinstance(value, list):
        return struct.pack(f"<IIQ{len(value)}f", 9, 6, len(value), *value)
    return struct.pack("<II", 4, value)
