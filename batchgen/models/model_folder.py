"""Checks that a folder contains a model that can be loaded; reads only JSON."""

import re
from pathlib import Path
from typing import Literal

from batchgen.errors import ModelError
from batchgen.models.config_check import check_sizes
from batchgen.models.remote_code import refuse_external_references
from batchgen.storage.entries import exists, is_file, is_folder, list_folder
from batchgen.storage.json_file import read_json
from batchgen.storage.openvino_header import (
    OPENVINO_GRAPH,
    WeightFormat,
    is_openvino_folder,
    read_openvino_header,
)

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
GENERATION_CONFIG_FILE = "generation_config.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
CHAT_TEMPLATES = "additional_chat_templates"
"""A folder of named templates."""
VOCABULARY_FILES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
    "sentencepiece.bpe.model", "tekken.json", "qwen.tiktoken", "tiktoken.model",
)  # fmt: skip
"""Each of these contains a vocabulary."""
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    TOKENIZER_CONFIG_FILE,
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    *TEMPLATE_FILES,
)
TOKENIZER_LIMIT = 256 << 20
"""Bytes of one file of a tokenizer; the largest in use have about 35 MB."""
_AGAIN = "Download or copy the model again; the last attempt was incomplete."
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")
PART_OF_A_TRAINING = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
"""A distributed checkpoint: transformers prefers such files to model.safetensors."""


def check_model_folder(
    folder: Path, weights: WeightFormat | Literal["any"] = "safetensors"
) -> None:
    """Check that the folder contains config and weights, and names no code of another repository.

    Raises:
        ModelError: something is missing or not supported.
    """
    _refuse_devices(folder)
    names = [entry.name for entry in _entries(folder)]
    if "adapter_config.json" in names:
        raise _adapter(folder)
    if CONFIG_FILE not in names:
        raise _no_config(folder, names)
    check_config(folder)
    if weights == "openvino" or (weights == "any" and format_of(folder) == "openvino"):
        read_openvino_header(folder)
    else:
        weight_files(folder)


def format_of(folder: Path) -> WeightFormat:
    """The format of the weights in a folder; safetensors if it has both, or none."""
    has_safetensors = is_file(folder / WEIGHTS_FILE) or is_file(folder / INDEX_FILE)
    return "openvino" if is_openvino_folder(folder) and not has_safetensors else "safetensors"


def check_tokenizer_folder(folder: Path) -> None:
    """Raise ModelError if the folder contains no vocabulary, or files that no tokenizer has."""
    _refuse_devices(folder)
    for name in TOKENIZER_FILES:
        file = folder / name
        if is_file(file) and (size := file.stat().st_size) > TOKENIZER_LIMIT:
            raise ModelError(
                f"{file}: {size:,} bytes, expected at most {TOKENIZER_LIMIT:,}",
                hint="Copy or download the tokenizer again.",
            )
    if not any(is_file(folder / name) for name in VOCABULARY_FILES) and not _own_tokenizer(folder):
        raise ModelError(
            f"{folder}: no tokenizer (none of {', '.join(VOCABULARY_FILES[:4])} …)",
            hint="Copy the tokenizer files into the folder, or set model.tokenizer to another tokenizer.",
        )


def check_config(folder: Path) -> None:
    """Apply `check_sizes` and `refuse_external_references` to the model's config files; raises ModelError."""
    for name in (CONFIG_FILE, GENERATION_CONFIG_FILE):
        if exists(folder / name):
            content = read_json(folder / name)
            refuse_external_references(folder / name, content)
            if name == CONFIG_FILE:
                check_sizes(folder / name, content)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that transformers loads, sorted; each exists.

    Raises:
        ModelError: there are none, files of the index are missing, or transformers would read others.
    """
    if parts := [f.name for f in _entries(folder) if PART_OF_A_TRAINING.match(f.name)]:
        raise ModelError(
            f"{folder}: {parts[0]} is part of a distributed checkpoint, which transformers reads instead of {WEIGHTS_FILE}",
            hint="Move such files away, or save the whole model with `save_pretrained`.",
        )
    if is_file(folder / WEIGHTS_FILE):
        return (folder / WEIGHTS_FILE,)
    if not is_file(folder / INDEX_FILE):
        raise _no_weights(folder)
    index = read_json(folder / INDEX_FILE)
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(f"{folder / INDEX_FILE}: weight_map is missing, empty or not an object")
    names = sorted({str(name) for name in shards.values()})
    if odd := [name for name in names if Path(name).name != name]:
        raise ModelError(
            f"{folder / INDEX_FILE}: {odd[0][:200]!r} is not a file name in this folder"
        )
    if missing := [name for name in names if not is_file(folder / name)]:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(names)} weight files are missing: "
            f"{', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}",
            hint=_AGAIN,
        )
    return tuple(folder / name for name in names)


def _refuse_devices(folder: Path) -> None:
    """Reject pipes and devices: reading one may never end."""
    for entry in [*_entries(folder), *list_folder(folder / CHAT_TEMPLATES)]:
        if exists(entry) and not (is_file(entry) or is_folder(entry)):
            raise ModelError(
                f"{entry}: a pipe, socket or device, expected a regular file",
                hint="Copy or download the model again.",
            )


def _entries(folder: Path) -> list[Path]:
    """The entries of a model's folder, sorted. Raises ModelError if it cannot be read."""
    try:
        entries = sorted(folder.iterdir())
        for entry in entries[:1]:
            entry.lstat()  # a folder may be listed by users who may not read what it contains
    except OSError as error:
        raise ModelError(f"{folder}: {error.strerror or error}") from error
    return entries


def _own_tokenizer(folder: Path) -> bool:
    """Whether the tokenizer is code of the model, which may store its vocabulary under any name."""
    file = folder / TOKENIZER_CONFIG_FILE
    return exists(file) and "auto_map" in read_json(file)


def _adapter(folder: Path) -> ModelError:
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    return ModelError(
        f"{folder}: an adapter (adapter_config.json) for {base or 'another model'}, expected a model",
        hint=f"Set model.path to its model, and model.adapter to {folder}.",
    )


def _no_config(folder: Path, names: list[str]) -> ModelError:
    if gguf := [name for name in names if name.endswith(".gguf")]:
        return ModelError(
            f"{folder}: contains GGUF ({gguf[0]}) and no config.json; a GGUF model is a file, not a folder",
            hint=f"Give the file: `{folder / gguf[0]}`.",
        )
    found = ", ".join(names[:5]) + (" …" if len(names) > 5 else "") if names else "nothing"
    return ModelError(
        f"{folder}: not a model folder: no config.json; found {found}",
        hint="Give the folder that contains config.json, the weights (*.safetensors) and the tokenizer.",
    )


def _no_weights(folder: Path) -> ModelError:
    names = [entry.name for entry in _entries(folder)]
    if OPENVINO_GRAPH in names:
        return ModelError(
            f"{folder}: the weights are in the format of OpenVINO ({OPENVINO_GRAPH}); expected safetensors",
            hint="Set model.engine: openvino.",
        )
    if pickled := [name for name in names if name.endswith(PICKLED)]:
        return ModelError(
            f"{folder}: the weights are in {pickled[0]}, a format that can run code when it is read; expected safetensors",
            hint="If you trust them, convert them: AutoModelForCausalLM.from_pretrained(FOLDER)"
            ".save_pretrained(NEW_FOLDER), and copy the tokenizer.",
        )
    for ending in (".safetensors", ".gguf"):
        if other := [name for name in names if name.endswith(ending)]:
            return ModelError(
                f"{folder}: no {WEIGHTS_FILE} and no {INDEX_FILE}; found {other[0]}, which is not "
                "loaded under that name",
                hint="Give a folder with the model in safetensors, as save_pretrained writes it.",
            )
    return ModelError(f"{folder}: no weights: neither {WEIGHTS_FILE} nor {INDEX_FILE}", hint=_AGAIN)
