import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import ModelError
from batchgen.models.find_model import resolve_model
from batchgen.models.info import read_model_info
from batchgen.models.model_folder import (
    check_model_folder,
    check_tokenizer_folder,
    weight_files,
)
from batchgen.storage.json_file import read_json

Write = Callable[..., Path]

INDEX = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
REFUSED: dict[str, tuple[dict[str, object], str, str]] = {
    # changes to a complete folder         message                          hint
    "no config": ({"config.json": None}, "no config.json", "Give the folder that contains"),
    "config cut": ({"config.json": '{"model_type":\n'}, "config.json:2:1: not JSON", ""),
    "config is a list": ({"config.json": "[]"}, "expected a JSON object, found a list", ""),
    "config is not text": ({"config.json": b"\xff\xfe{}"}, "config.json: not JSON", ""),
    "no weights": ({"model.safetensors": None}, "no weights", "copy the model again"),
    "pickled weights": (
        {"model.safetensors": None, "pytorch_model.bin": b"x"},
        "the weights are in pytorch_model.bin",
        "save_pretrained",
    ),
    "other names of weights": (
        {"model.safetensors": None, "consolidated.safetensors": b"x"},
        "found consolidated.safetensors",
        "save_pretrained",
    ),
    "GGUF and a config": (
        {"model.safetensors": None, "model.Q4.gguf": b"x"},
        "found model.Q4.gguf",
        "safetensors",
    ),
    "GGUF alone": ({"config.json": None, "m.gguf": b"x"}, "GGUF", "m.gguf`"),
    "a shard missing": (
        {"model.safetensors": None, "model.safetensors.index.json": INDEX},
        "2 of 2 weight files are missing: model-00001-of-00002.safetensors",
        "copy the model again",
    ),
    "index without map": (
        {"model.safetensors": None, "model.safetensors.index.json": {}},
        "weight_map is missing",
        "",
    ),
    "index that leads out of the folder": (
        {
            "model.safetensors": None,
            "model.safetensors.index.json": {"weight_map": {"a": "../../other.safetensors"}},
        },
        "is not a file name in this folder",
        "",
    ),
    "a part of a distributed checkpoint": (
        {"shard-00001-model-00001-of-00002.safetensors": b"x"},
        "shard-00001-model-00001-of-00002.safetensors is part of a distributed checkpoint",
        "Move such files away",
    ),
    "other weights": (
        {"config.json": {"transformers_weights": "other.safetensors"}},
        "transformers_weights: 'other.safetensors' names other weights",
        "Rename that file",
    ),
    "other weights in a part": (
        {"config.json": {"text_config": {"transformers_weights": "x.safetensors.index.json"}}},
        "text_config.transformers_weights: .* names other weights",
        "remove transformers_weights",
    ),
    "keys with a new meaning": (
        {"config.json": {"attribute_map": {"x": "_attn_implementation"}, "x": "owner/kernel"}},
        "attribute_map.x: '_attn_implementation' gives other keys of the file a new meaning",
        "Remove attribute_map",
    ),
    "adapter": (
        {"adapter_config.json": {"base_model_name_or_path": "owner/base"}},
        "an adapter .* for owner/base",
        "model.adapter",
    ),
}


@pytest.mark.parametrize(("changes", "message", "way_out"), REFUSED.values(), ids=REFUSED.keys())
def test_the_error_of_an_invalid_model_folder_has_the_problem_and_a_hint(
    tmp_path: Path, write_model: Write, changes: dict[str, object], message: str, way_out: str
) -> None:
    folder = write_model(tmp_path / "model", changes)

    with pytest.raises(ModelError, match=message) as caught:
        check_model_folder(folder)

    assert str(folder) in caught.value.message
    assert way_out in caught.value.hint


KERNELS: dict[str, dict[str, object]] = {
    "private key": {"_attn_implementation": "owner/kernel"},
    "public key": {"attn_implementation": "owner/kernel@v1"},
    "of a part": {"text_config": {"_attn_implementation": "owner/kernel"}},
    "by part": {"attn_implementation": {"text_config": "owner/kernel"}},
    "experts": {"experts_implementation": "owner/kernel"},
    "internal": {"_attn_implementation_internal": "owner/kernel:flash"},
}


@pytest.mark.parametrize("extra", KERNELS.values(), ids=KERNELS.keys())
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_a_config_that_names_a_code_repository_is_rejected_with_the_key(
    tmp_path: Path,
    write_model: Write,
    config: dict[str, Any],
    extra: dict[str, object],
    file: str,
) -> None:
    folder = write_model(tmp_path / "model", {file: {**config, **extra}})

    with pytest.raises(ModelError, match=r"implementation.*: 'owner/kernel.*' names a repository"):
        check_model_folder(folder)


@pytest.mark.parametrize(
    "extra",
    [
        {"attn_implementation": "sdpa"},
        {"_name_or_path": "owner/name"},
        {"attn_implementation": None},
    ],
)
def test_plain_configs_are_accepted(
    tmp_path: Path, write_model: Write, config: dict[str, Any], extra: dict[str, object]
) -> None:
    check_model_folder(write_model(tmp_path / "model", {"config.json": {**config, **extra}}))


def test_a_single_weights_file_is_preferred_to_an_index_as_in_transformers(
    tmp_path: Path, write_model: Write
) -> None:
    folder = write_model(tmp_path / "model", {"model.safetensors.index.json": INDEX})

    assert weight_files(folder) == (folder / "model.safetensors",)


def test_each_shard_is_listed_once_and_sorted(tmp_path: Path, write_model: Write) -> None:
    shards = ["model-2.safetensors", "model-1.safetensors"]
    folder = write_model(
        tmp_path / "model",
        {
            "model.safetensors": None,
            "model.safetensors.index.json": {
                "weight_map": {"a": shards[0], "b": shards[1], "c": shards[0]}
            },
            **dict.fromkeys(shards, b""),
        },
    )

    assert [file.name for file in weight_files(folder)] == sorted(shards)


def test_a_giant_json_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with file.open("wb") as opened:
        opened.truncate(65 << 20)

    with pytest.raises(ModelError, match="expected at most"):
        read_json(file)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", ""),
        ("vocab.json", ""),
        ("spiece.model", ""),
        ("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": ["own.Own", null]}}'),
    ],
)
def test_a_tokenizer_needs_only_a_vocabulary_or_its_own_code(
    tmp_path: Path, file: str, content: str
) -> None:
    with pytest.raises(ModelError, match="no tokenizer") as caught:
        check_tokenizer_folder(tmp_path)
    assert "model.tokenizer" in caught.value.hint

    (tmp_path / file).write_text(content)
    check_tokenizer_folder(tmp_path)


def test_a_models_tokenizer_may_be_elsewhere(tmp_path: Path, write_model: Write) -> None:
    check_model_folder(write_model(tmp_path / "model", {"tokenizer.json": None}))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "notes"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_never_read(
    tmp_path: Path, write_model: Callable[..., Path], name: str, kind: str
) -> None:
    folder = write_model(tmp_path / "model")
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero")
    for check in (check_model_folder, check_tokenizer_folder):
        with pytest.raises(ModelError, match=f"{name}: a pipe, socket or device"):
            check(folder)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_among_named_templates_are_never_read(
    tmp_path: Path, write_model: Callable[..., Path], kind: str
) -> None:
    folder = write_model(tmp_path / "model", {"additional_chat_templates/rag.jinja": "x"})
    check_tokenizer_folder(folder)
    file = folder / "additional_chat_templates/tools.jinja"
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    with pytest.raises(ModelError, match=r"tools\.jinja: a pipe, socket or device"):
        check_tokenizer_folder(folder)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "vocab.json", "merges.txt", "chat_template.jinja", "spiece.model"]
)
def test_a_tokenizer_file_of_terabytes_is_rejected(
    tmp_path: Path, write_model: Callable[..., Path], name: str
) -> None:
    folder = write_model(tmp_path / "model")
    (folder / name).touch()
    os.truncate(folder / name, 10**12)
    with pytest.raises(ModelError, match=r"1,000,000,000,000 bytes, expected at most"):
        check_tokenizer_folder(folder)


@pytest.mark.parametrize(
    ("hidden", "mode"),
    [
        (".", 0o000),
        (".", 0o444),
        (".", 0o111),
        ("..", 0o000),
        ("config.json", 0o000),
        ("model.safetensors", 0o000),
        ("tokenizer_config.json", 0o000),
    ],
)
def test_what_another_user_may_not_read_is_an_error(
    write_model: Callable[..., Path], hidden: str, mode: int
) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = write_model(Path(place) / "shared" / "model")
        (folder / hidden).chmod(mode)
        with as_another_user(), pytest.raises(ModelError, match=r"Permission denied|not readable"):
            read_model_info(resolve_model(str(folder)))
        (folder / hidden).chmod(0o755)


@contextmanager
def as_another_user() -> Iterator[None]:
    """The rights of a user that owns nothing; root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
