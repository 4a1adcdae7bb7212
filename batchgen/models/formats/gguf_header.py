"""Reads and checks the header of a GGUF file: what it describes, whether it is whole, and whether it can be converted.

Takes milliseconds and imports nothing but the standard library: `validate` uses it.
"""

import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.errors import ModelError

ARCHITECTURES = (
    "llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "gemma2", "gemma3", "phi3", "falcon", "gpt2",
    "starcoder2", "stablelm", "nemotron",
)  # fmt: skip
"""Decoders that transformers reads from GGUF."""
GPT2_SPLITS = ("default", "gpt-2", "gpt2")
"""Pre-tokenizers that split text as GPT-2 does, which transformers does for any name that it does not have."""
SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r")
"""The same, but every digit is a token of its own."""
PRE_TOKENIZERS = (
    *GPT2_SPLITS, *SINGLE_DIGITS, "llama3", "llama-v3", "llama-bpe", "falcon3", "tekken", "qwen2",
    "deepseek-r1-qwen", "gpt-4o",
)  # fmt: skip
"""Pre-tokenizers of byte-level vocabularies that transformers rebuilds."""
ROPE_FACTORS = "rope_freqs.weight"
"""The tensor with the factors of Llama 3's rotary embedding, which its metadata do not have."""
TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""Types of tensors that the package gguf reads: name, elements of a block, bytes of a block."""
_VERSIONS = (2, 3)
_VALUES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32
_MOST_DIMENSIONS = 4
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_AGAIN = "Copy or download the file again."


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor of the file: its type's number, its elements, and the offset of its data."""

    name: str
    type: int
    elements: int
    offset: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a file describes. Arrays in `values` are represented by their lengths."""

    file: Path
    values: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    @property
    def pre_tokenizer(self) -> str:
        return str(self.values.get("tokenizer.ggml.pre", "default"))

    @property
    def heads(self) -> tuple[int, int, int] | None:
        """Query heads, kv heads and numbers of a key; None if the file does not have them."""
        prefix = f"{self.architecture}.attention."
        queries = self.values.get(f"{prefix}head_count")
        keys = self.values.get(f"{prefix}head_count_kv", queries)
        width = self.values.get(f"{prefix}key_length")
        embedding = self.values.get(f"{self.architecture}.embedding_length")
        if not queries or not keys or queries % keys or not (width or embedding):
            return None
        return queries, keys, width or embedding // queries

    @property
    def elements(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.elements for tensor in self.tensors)


def read_gguf_header(file: Path) -> GgufHeader:
    """Read the header, and check that the file is whole and that its model can be converted.

    Raises:
        ModelError: it is damaged, truncated or one of several files, or has an architecture, a type of tensors, a
            tokenizer or a rotary embedding that is not supported.
    """
    size = 0
    try:
        size = file.stat().st_size
        if size == 0:
            raise ModelError(f"{file}: empty", hint=_AGAIN)
        with (
            file.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            header, end = _Reader(file, data).header()
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror or error}") from error
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise ModelError(
            f"{file}: truncated or damaged ({size:,} bytes): its header cannot be read", hint=_AGAIN
        ) from error
    _refuse_splits(header)
    _check_support(header)
    _check_size(header, end, size)
    return header


class _Reader:
    """Reads from the start of the file."""

    def __init__(self, file: Path, data: mmap.mmap) -> None:
        self._file, self._data, self._at = file, data, 0

    def header(self) -> tuple[GgufHeader, int]:
        """The header, and where it ends."""
        if self._data[:4] != b"GGUF":
            raise ModelError(
                f"{self._file}: not a GGUF file: it does not start with GGUF", hint=_AGAIN
            )
        self._at = 4
        version, tensors, values = self._take("<IQQ")
        if version not in _VERSIONS:
            shown = "big-endian" if version >> 16 else f"version {version}"
            raise ModelError(
                f"{self._file}: GGUF of {shown}, expected version 2 or 3, little-endian",
                hint="Convert the model again with a current llama.cpp.",
            )
        found = {self._text(): self._value(self._take("<I")[0]) for _ in range(values)}
        listed = tuple(self._tensor() for _ in range(tensors))
        return GgufHeader(self._file, found, listed), self._at

    def _take(self, layout: str) -> tuple[Any, ...]:
        taken = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return taken

    def _text(self) -> str:
        return self._bytes().decode()

    def _bytes(self) -> bytes:
        (length,) = self._take("<Q")
        if length > len(self._data) - self._at:
            raise struct.error("a text beyond the end of the file")
        self._at += length
        return self._data[self._at - length : self._at]

    def _value(self, kind: int) -> Any:  # noqa: ANN401  (a value of any type)
        if kind in _VALUES:
            return self._take(f"<{_VALUES[kind]}")[0]
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise struct.error(f"a value of type {kind}")
        inner, count = self._take("<IQ")
        if inner in _VALUES:
            self._at += count * struct.calcsize(_VALUES[inner])
        else:
            for _ in range(count):
                self._bytes() if inner == _STRING else self._value(inner)
        return count

    def _tensor(self) -> GgufTensor:
        name, (dimensions,) = self._text(), self._take("<I")
        if dimensions > _MOST_DIMENSIONS:
            raise struct.error(f"a tensor with {dimensions} dimensions")
        sizes = self._take(f"<{dimensions}Q")
        kind, offset = self._take("<IQ")
        return GgufTensor(name, kind, math.prod(sizes), offset)


def _refuse_splits(header: GgufHeader) -> None:
    part = _PART.search(header.file.name)
    count = header.values.get("split.count", 0) or (int(part[2]) if part else 0)
    if count > 1:
        raise ModelError(
            f"{header.file}: one of {count} files of a split model, expected one whole file",
            hint="Join them: `llama-gguf-split --merge FIRST_FILE WHOLE_FILE` of llama.cpp.",
        )


def _check_support(header: GgufHeader) -> None:
    file, name = header.file, header.architecture
    if name not in ARCHITECTURES:
        raise ModelError(
            f"{file}: the architecture {name or '(none)'} is not supported in GGUF; expected one of "
            f"{', '.join(ARCHITECTURES)}",
            hint="Give a folder with the same model in safetensors.",
        )
    if unknown := sorted({t.type for t in header.tensors} - TYPES.keys()):
        raise ModelError(
            f"{file}: tensors of the GGUF types {', '.join(map(str, unknown))}, which are not supported; "
            f"expected {', '.join(kind for kind, *_ in TYPES.values())}",
            hint="Give the same model with another quantisation, such as Q8_0.",
        )
    kind = header.values.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama") or (
        kind == "gpt2" and header.pre_tokenizer not in PRE_TOKENIZERS
    ):
        shown = f"{kind or '(none)'} with the pre-tokenizer {header.pre_tokenizer}"
        raise ModelError(
            f"{file}: the tokenizer {shown} is not supported in GGUF; expected llama, or gpt2 with one of "
            f"{', '.join(PRE_TOKENIZERS)}",
            hint="Give a folder with the same model in safetensors.",
        )
    if odd := _odd_parts(header):
        raise ModelError(
            f"{file}: {odd}, which its conversion would lose",
            hint="Give a folder with the same model in safetensors.",
        )


def _odd_parts(header: GgufHeader) -> str:
    """A part of the model that transformers ignores when it reads GGUF; empty if there is none."""
    name, values = header.architecture, header.values
    if (scaling := values.get(f"{name}.rope.scaling.type", "none")) != "none":
        return f"a scaled rotary embedding ({scaling})"
    if name == "llama" and values.get("llama.expert_count", 0):
        return "a mixture of experts of the architecture llama"
    factors = [t.name for t in header.tensors if t.name.startswith("rope_")]
    if factors and (name != "llama" or factors != [ROPE_FACTORS]):
        return f"factors of the rotary embedding ({factors[0]})"
    return ""


def _check_size(header: GgufHeader, end: int, size: int) -> None:
    alignment = header.values.get("general.alignment", _ALIGNMENT) or _ALIGNMENT
    start = -(-end // alignment) * alignment
    needed = start
    for tensor in header.tensors:
        _, elements, block = TYPES[tensor.type]
        needed = max(needed, start + tensor.offset + -(-tensor.elements // elements) * block)
    if not header.tensors or size < needed:
        raise ModelError(
            f"{header.file}: truncated: {size:,} bytes with {len(header.tensors)} tensors, expected at least {needed:,}",
            hint=_AGAIN,
        )
