"""A GGUF file is checked by its header, before any weight is read."""

from pathlib import Path

import pytest

from batchgen.errors import ModelError
from batchgen.models.formats.gguf_header import TYPES, read_gguf_header
from tests.models.formats.gguf_bytes import TENSORS, VALUES, gguf_bytes

WHOLE = gguf_bytes()


def llama(**changes: object) -> dict[str, object]:
    names = {key: f"llama.{key}".replace("__", ".") for key in changes}
    return {**VALUES, **{names[key]: value for key, value in changes.items()}}


def test_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(WHOLE)

    header = read_gguf_header(file)

    assert header.architecture == "llama"
    assert header.pre_tokenizer == "smollm"
    assert header.values["tokenizer.ggml.tokens"] == 2
    assert header.values["llama.context_length"] == 64
    assert [(t.name, t.type, t.elements) for t in header.tensors] == [
        ("token_embd.weight", 8, 128),
        ("output_norm.weight", 0, 64),
    ]
    assert header.elements == 192


def test_the_types_are_those_of_the_package_gguf() -> None:
    pytest.importorskip("gguf", reason="needs the extra: demo")
    from gguf import constants, quants

    sizes = {int(t): (t.name, *size) for t, size in constants.GGML_QUANT_SIZES.items()}
    assert {number: sizes[number] for number in TYPES} == dict(TYPES)
    readable = {int(t) for t in quants._type_traits} | {0, 1, 30}
    assert set(TYPES) <= readable


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "another format": (b"PK\3\4" + WHOLE[4:], "not a GGUF file"),
    "version 1": (gguf_bytes(version=1), "GGUF of version 1, expected version 2 or 3"),
    "big-endian": (gguf_bytes(version=3 << 24), "GGUF of big-endian"),
    "header cut short": (WHOLE[:100], "its header cannot be read"),
    "text of a wild length": (WHOLE[:24] + b"\xff" * 8 + WHOLE[32:], "its header cannot be read"),
    "data cut short": (WHOLE[:-100], "expected at least"),
    "no tensors": (gguf_bytes(tensors={}), "with 0 tensors"),
    "split": (gguf_bytes({**VALUES, "split.count": 3}), "one of 3 files of a split model"),
    "architecture": (
        gguf_bytes({**VALUES, "general.architecture": "clip"}),
        "the architecture clip is not supported in GGUF; expected one of llama, ",
    ),
    "no architecture": (
        gguf_bytes({"tokenizer.ggml.model": "gpt2"}),
        "the architecture (none) is not supported",
    ),
    "type": (
        gguf_bytes(tensors={**TENSORS, "x": (40, (64,))}),
        "tensors of the GGUF types 40, which are not supported; expected F32, ",
    ),
    "tokenizer": (
        gguf_bytes({**VALUES, "tokenizer.ggml.model": "rwkv"}),
        "the tokenizer rwkv with the pre-tokenizer smollm is not supported",
    ),
    "pre-tokenizer": (
        gguf_bytes({**VALUES, "tokenizer.ggml.pre": "chameleon"}),
        "gpt2 with the pre-tokenizer chameleon is not supported",
    ),
    "scaled rotary embedding": (
        gguf_bytes(llama(rope__scaling__type="yarn")),
        "a scaled rotary embedding (yarn), which its conversion would lose",
    ),
    "experts": (gguf_bytes(llama(expert_count=8)), "a mixture of experts"),
    "factors": (
        gguf_bytes(tensors={**TENSORS, "rope_factors_long.weight": (0, (64,))}),
        "factors of the rotary embedding (rope_factors_long.weight)",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_an_unusable_file_is_named_with_the_reason_and_a_hint(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(content)

    with pytest.raises(ModelError) as caught:
        read_gguf_header(file)

    assert caught.value.message.startswith(f"{file}: ")
    assert message in caught.value.message
    assert caught.value.hint.endswith(".")


@pytest.mark.parametrize("end", range(0, len(WHOLE), 7))
def test_a_file_cut_anywhere_is_an_error(tmp_path: Path, end: int) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(WHOLE[:end])
    with pytest.raises(ModelError):
        read_gguf_header(file)


def test_a_part_is_recognised_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "m-00001-of-00002.gguf"
    file.write_bytes(WHOLE)
    with pytest.raises(ModelError, match="one of 2 files"):
        read_gguf_header(file)
