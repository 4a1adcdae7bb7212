"""Refuses keys in a model's JSON files that name code of another repository, or other weights.

transformers follows such keys, some of them whatever its caller passes. They are found here by name, before anything
of the model is loaded. `engines/torch/model.py` checks again what transformers made of them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ModelError
from batchgen.storage.entries import is_file
from batchgen.storage.json_file import leaves, read_json

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that cannot change, unlike a branch or a tag."""
_CODE_FILES = ("config.json", "tokenizer_config.json", "processor_config.json")
_VALUE = 200


@dataclass(frozen=True, slots=True)
class _Rule:
    key: re.Pattern[str]
    refuses: Callable[[object], bool]
    why: str
    hint: str


def _named(value: object) -> bool:
    return value is not None


def _repository(value: object) -> bool:
    return isinstance(value, str) and "/" in value


_RULES = (
    _Rule(
        re.compile(r"implementation|(^|\.)use_kernels$|kernel_config"),
        _repository,
        "names a repository with code, which batchgen does not run",
        "Remove {key} from the file.",
    ),
    _Rule(
        re.compile(r"(^|\.)attribute_map(\.|$)"),
        _named,
        "gives other keys of the file a new meaning",
        "Remove attribute_map from the file; it belongs in the code of a model class.",
    ),
    _Rule(
        re.compile(r"(^|\.)transformers_weights$"),
        _named,
        "names other weights than model.safetensors",
        "Rename that file to model.safetensors, and remove {key}.",
    ),
)
"""Keys that are refused in config.json. A model whose code is part of transformers needs none of them."""


def refuse_external_references(file: Path, content: Mapping[str, object]) -> None:
    """Refuse a config that names code of another repository, or weights that are not checked.

    Raises:
        ModelError: the file, the key and the value.
    """
    for key, value in leaves(content):
        for rule in _RULES:
            if rule.key.search(key) and rule.refuses(value):
                raise ModelError(
                    f"{file}: {key}: {str(value)[:_VALUE]!r} {rule.why}",
                    hint=rule.hint.format(key=key.rpartition(".")[2]),
                )


def refuse_external_code(folder: Path) -> None:
    """Refuse a model that the job trusts, but whose code is in another repository.

    Raises:
        ModelError: the file, the key and the value.
    """
    for name in _CODE_FILES:
        if not is_file(folder / name):
            continue
        for key, value in leaves(read_json(folder / name).get("auto_map")):
            if isinstance(value, str) and "--" in value:
                raise ModelError(
                    f"{folder / name}: auto_map{f'.{key}' if key else ''}: {value[:_VALUE]!r} is code of "
                    "another repository, which model.trust_remote_code does not cover",
                    hint="Copy that file into the model's folder, read it, and name it without `owner/name--`.",
                )
