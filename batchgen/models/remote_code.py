"""Where a model's files ask for more than numbers: code from elsewhere, weights under other names.

transformers follows such keys on its own, some of them whatever its caller passes. They are found here by name,
before anything of the model is loaded. `engines/torch/model.py` looks once more, at what transformers made of them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ModelError
from batchgen.models.json_file import leaves, read_json

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that cannot move, unlike a branch or a tag."""
_CODE_FILES = ("config.json", "tokenizer_config.json", "processor_config.json")
_VALUE = 200


@dataclass(frozen=True, slots=True)
class _Rule:
    """A kind of key that is refused: which, with which values, why, and what to do."""

    key: re.Pattern[str]
    refuses: Callable[[object], bool]
    why: str
    way_out: str


def _named(value: object) -> bool:
    return value is not None


def _repository(value: object) -> bool:
    return isinstance(value, str) and "/" in value


_RULES = (
    _Rule(
        re.compile(r"implementation|(^|\.)use_kernels$|kernel_config"),
        _repository,
        "names a repository with code to be run",
        "batchgen does not run it: take {key} out of the file",
    ),
    _Rule(
        re.compile(r"(^|\.)attribute_map(\.|$)"),
        _named,
        "gives other keys of the file a new meaning",
        "it belongs to a model's code and never into its file: take attribute_map out",
    ),
    _Rule(
        re.compile(r"(^|\.)transformers_weights$"),
        _named,
        "names other weights than model.safetensors",
        "rename that file to model.safetensors, and take {key} out",
    ),
)
"""What no config.json may say. A model whose code comes with transformers needs none of it."""


def refuse_external_references(file: Path, content: Mapping[str, object]) -> None:
    """Refuse a config that names code to be fetched, or other weights than those that are checked here.

    Raises:
        ModelError: the file, the key and the value.
    """
    for key, value in leaves(content):
        for rule in _RULES:
            if rule.key.search(key) and rule.refuses(value):
                raise ModelError(
                    f"{file}: {key}: {str(value)[:_VALUE]!r} {rule.why}",
                    hint=rule.way_out.format(key=key.rpartition(".")[2]),
                )


def refuse_external_code(folder: Path) -> None:
    """Refuse a model whose own code, which the job trusts, lies in another repository than the model.

    Raises:
        ModelError: the file, the key and the value.
    """
    for name in _CODE_FILES:
        if not (folder / name).is_file():
            continue
        for key, value in leaves(read_json(folder / name).get("auto_map")):
            if isinstance(value, str) and "--" in value:
                raise ModelError(
                    f"{folder / name}: auto_map{f'.{key}' if key else ''}: {value[:_VALUE]!r} is code of "
                    "another repository, which model.trust_remote_code does not cover",
                    hint="copy that file into the model's folder, read it, and name it without `owner/name--`",
                )
