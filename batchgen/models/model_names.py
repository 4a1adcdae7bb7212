"""Which values of `model.path` and `model.adapter` are names of models: errors for those that are not."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from batchgen.errors import ModelError
from batchgen.models.formats.gguf_model import SUFFIX
from batchgen.models.hubs.hub import MODEL_ID, Hub
from batchgen.models.hubs.model_scope import PREFIX, ModelScope, check_name
from batchgen.storage.entries import is_file, is_folder, list_folder


def hub_of(name: str) -> Hub:
    """The hub of a model, by its name, with the cache of this environment."""
    kind = ModelScope if name.startswith(PREFIX) else Hub
    return kind.from_environment(os.environ)


def require_adapter_id(path: str) -> None:
    """Raise ModelError unless it can be the id of an adapter of a hub."""
    if path.startswith(PREFIX):
        check_name(path)
        return
    file = Path(path).expanduser()
    if is_file(file) or not _is_id(path):
        near = [str(entry) for entry in _siblings(file)]
        raise ModelError(
            f"{file.absolute()} is not a folder, nor is {path} an id of the hub{similar_names(str(file.absolute()), near)}",
            hint="Give the folder of an adapter, with adapter_config.json, or the id of an adapter in the hub.",
        )


def _is_id(path: str) -> bool:
    return MODEL_ID.fullmatch(path) is not None and "--" not in path and ".." not in path


def require_model_id(path: str) -> None:
    """Raise ModelError unless it can be the id of a model of a hub."""
    if path.startswith(PREFIX):
        check_name(path)
        return
    file = Path(path).expanduser()
    if is_file(file):
        raise ModelError(
            f"{path} is a file, expected a folder or a file *.gguf",
            hint=f"Give the folder of the model: `{file.absolute().parent}`.",
        )
    if "://" in path:
        raise ModelError(
            f"{path} is a URL, expected a folder or a model id",
            hint="Give the id of a hub model, such as Qwen/Qwen3-0.6B, and set HF_ENDPOINT to the hub.",
        )
    if path.lower().endswith(SUFFIX):
        near = [entry.name for entry in list_folder(file.absolute().parent)]
        raise ModelError(
            f"file {file.absolute()} does not exist{similar_names(file.name, near)}",
            hint="Give the path of a GGUF file on this machine, or OWNER/NAME/file.gguf of the hub.",
        )
    if not _is_id(path):
        near = [str(e) for e in _siblings(file)]
        raise ModelError(
            f"folder {file.absolute()} does not exist{similar_names(str(file.absolute()), near)}",
            hint="Give a folder, demo:smollm2-135m, or the id of a hub model such as Qwen/Qwen3-0.6B.",
        )


def _siblings(file: Path) -> list[Path]:
    return [entry for entry in list_folder(file.absolute().parent) if is_folder(entry)]


def similar_names(name: str, known: Sequence[str]) -> str:
    """The end of an error message: the names that are similar; empty if none is."""
    by_lower = {entry.lower(): entry for entry in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.75)
    return f"; similar: {', '.join(by_lower[c] for c in close)}" if close else ""
