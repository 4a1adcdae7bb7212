"""Which files make a folder a model, and what stands in a folder that is none: said by name.

Reads JSON only. Knows nothing of where folders come from.
"""

import re
from pathlib import Path

from batchgen.errors import ModelError
from batchgen.models.json_file import read_json
from batchgen.models.remote_code import refuse_external_references

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
GENERATION_CONFIG_FILE = "generation_config.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
VOCABULARY_FILES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
    "sentencepiece.bpe.model", "tekken.json", "qwen.tiktoken", "tiktoken.model",
)  # fmt: skip
"""Any one of these holds a vocabulary."""
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")
PART_OF_A_TRAINING = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
"""A distributed checkpoint: where one such file lies, transformers reads these and not model.safetensors."""


def check_model_folder(folder: Path) -> None:
    """Check that the folder holds a model that can be loaded without running foreign code; its tokenizer may be elsewhere.

    Raises:
        ModelError: what is missing or not supported, by name, and the way out.
    """
    names = sorted(entry.name for entry in folder.iterdir())
    if "adapter_config.json" in names:
        raise _adapter(folder)
    if CONFIG_FILE not in names:
        raise _no_config(folder, names)
    check_config(folder)
    weight_files(folder)


def check_tokenizer_folder(folder: Path) -> None:
    """Check that the folder holds a vocabulary.

    Raises:
        ModelError: it holds none.
    """
    if not any((folder / name).is_file() for name in VOCABULARY_FILES) and not _own_tokenizer(
        folder
    ):
        raise ModelError(
            f"{folder}: no tokenizer (none of {', '.join(VOCABULARY_FILES[:4])} …)",
            hint="copy the model's tokenizer files into the folder, or name another in model.tokenizer",
        )


def check_config(folder: Path) -> None:
    """Refuse a config that names code to be fetched, as `foreign_code.refuse_foreign` says.

    Raises:
        ModelError: the file, the key and the value.
    """
    for name in (CONFIG_FILE, GENERATION_CONFIG_FILE):
        if (folder / name).exists():
            refuse_external_references(folder / name, read_json(folder / name))


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that transformers will load, sorted; each exists.

    Raises:
        ModelError: there are none, some of those that the index names are missing, or transformers would read others.
    """
    if parts := sorted(f.name for f in folder.iterdir() if PART_OF_A_TRAINING.match(f.name)):
        raise ModelError(
            f"{folder}: {parts[0]} is a part of a distributed checkpoint, which is read in place of {WEIGHTS_FILE}",
            hint="move such files away, or save the model as a whole with `save_pretrained`",
        )
    if (folder / WEIGHTS_FILE).is_file():
        return (folder / WEIGHTS_FILE,)
    if not (folder / INDEX_FILE).is_file():
        raise _no_weights(folder)
    index = read_json(folder / INDEX_FILE)
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(
            f"{folder / INDEX_FILE}: no weight_map that names the files of the weights"
        )
    names = sorted({str(name) for name in shards.values()})
    if odd := [name for name in names if Path(name).name != name]:
        raise ModelError(
            f"{folder / INDEX_FILE}: {odd[0][:200]!r} is no name of a file in this folder"
        )
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(
            f"{folder}: {len(missing)} of {len(names)} files of the weights are missing: "
            f"{', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}",
            hint="the download or copy was not finished: fetch the model again",
        )
    return tuple(folder / name for name in names)


def _own_tokenizer(folder: Path) -> bool:
    """Whether the tokenizer is code of the model's own, which may keep its vocabulary under any name."""
    file = folder / TOKENIZER_CONFIG_FILE
    return file.exists() and "auto_map" in read_json(file)


def _adapter(folder: Path) -> ModelError:
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    return ModelError(
        f"{folder}: holds an adapter (adapter_config.json) for {base or 'another model'}; adapters are not supported",
        hint="merge it into its model and save that: PeftModel.merge_and_unload().save_pretrained(FOLDER)",
    )


def _no_config(folder: Path, names: list[str]) -> ModelError:
    if gguf := [name for name in names if name.endswith(".gguf")]:
        return ModelError(
            f"{folder}: holds GGUF ({gguf[0]}) and no config.json; GGUF files are not run here",
            hint="give a folder with the same model in safetensors",
        )
    found = ", ".join(names[:5]) + (" …" if len(names) > 5 else "") if names else "nothing"
    return ModelError(
        f"{folder}: no config.json, so this is no folder of a model; found {found}",
        hint="give the folder that holds config.json, the weights (*.safetensors) and the tokenizer",
    )


def _no_weights(folder: Path) -> ModelError:
    names = sorted(entry.name for entry in folder.iterdir())
    if pickled := [name for name in names if name.endswith(PICKLED)]:
        return ModelError(
            f"{folder}: the weights are only there as {pickled[0]}, a format that can run code when it is "
            "read; batchgen reads safetensors",
            hint="if you trust them, convert once: AutoModelForCausalLM.from_pretrained(FOLDER)"
            ".save_pretrained(NEW_FOLDER), and copy the tokenizer",
        )
    for ending in (".safetensors", ".gguf"):
        if other := [name for name in names if name.endswith(ending)]:
            return ModelError(
                f"{folder}: no {WEIGHTS_FILE} and no {INDEX_FILE}; found {other[0]}, which is not "
                "loaded under that name",
                hint="give a folder with the model in safetensors, as save_pretrained writes it",
            )
    return ModelError(
        f"{folder}: no weights: neither {WEIGHTS_FILE} nor {INDEX_FILE}",
        hint="the download or copy was not finished: fetch the model again",
    )
