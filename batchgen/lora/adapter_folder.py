"""Reads a LoRA adapter from a folder: its config and the header of its tensors, not their values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import AdapterError, ModelError, Problem
from batchgen.lora.lora_config import LoraConfig, parse_lora_config
from batchgen.lora.lora_tensors import LoraTensors, sort_tensors
from batchgen.storage.entries import is_file, list_folder
from batchgen.storage.json_file import read_json
from batchgen.storage.safetensors_header import SafetensorsHeader, read_safetensors_header

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
"""The files that decide the answers."""
_FLOATS = ("F64", "F32", "F16", "BF16")
_PICKLED = (".bin", ".pt", ".pth")
_MERGE = (
    "Merge the adapter into its model with peft: "
    "PeftModel.from_pretrained(MODEL, ADAPTER).merge_and_unload().save_pretrained(FOLDER), and set model.path."
)
_AGAIN = "Download or copy the adapter again: its files do not belong together."


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter, its weights unread."""

    folder: Path
    config: LoraConfig
    tensors: LoraTensors
    parameters: int

    @property
    def weights(self) -> Path:
        return self.folder / ADAPTER_WEIGHTS

    @property
    def base_model(self) -> str:
        """The model that it was trained with, as its author named it; empty if unknown."""
        return self.config.base_model_name_or_path or ""

    def describe(self) -> str:
        """Kind, rank and size, in a few words."""
        config, count = self.config, len(self.tensors.matrices)
        kind = "DoRA" if config.use_dora else "rsLoRA" if config.use_rslora else "LoRA"
        ranks = sorted({config.rank(module) for module in self.tensors.matrices})
        rank = f"rank {ranks[0]}" + (f" to {ranks[-1]}" if len(ranks) > 1 else "") if ranks else ""
        saved = len(self.tensors.whole)
        whole = f"{saved} replaced parameter{'s' if saved != 1 else ''}" if saved else ""
        size = f"{self.parameters / 1e6:,.1f}M parameters"
        modules = f"{count} module{'s' if count != 1 else ''}"
        return ", ".join(filter(None, [f"{kind} of {modules}", rank, whole, size]))


def is_adapter_folder(folder: Path) -> bool:
    """Whether the folder is meant to contain an adapter, complete or not."""
    return is_file(folder / ADAPTER_CONFIG)


def read_adapter(folder: Path) -> Adapter:
    """Read and check an adapter.

    Raises:
        AdapterError: files are missing, damaged or contradict each other, or the variant is not supported.
    """
    problems = _missing_files(folder)
    content: Mapping[str, object] = {}
    if is_file(folder / ADAPTER_CONFIG):
        content, more = _config_content(folder)
        problems += more
    config, unsupported = parse_lora_config(content) if content else (None, [])
    at = folder / ADAPTER_CONFIG
    problems += [Problem("", f"{at}: {sentence}", _MERGE) for sentence in unsupported]
    header = None
    if is_file(folder / ADAPTER_WEIGHTS):
        header, more = _header(folder)
        problems += more
    if config is None or header is None or problems:
        raise AdapterError(problems)
    tensors, contradictions = sort_tensors(config, {t.name: t.shape for t in header.tensors})
    if contradictions:
        raise AdapterError(
            [Problem("", f"{header.file}: {sentence}", _AGAIN) for sentence in contradictions]
        )
    return Adapter(folder, config, tensors, sum(tensor.elements for tensor in header.tensors))


def check_adapter_files(folder: Path) -> None:
    """Check that the folder has the files of an adapter. Raises AdapterError."""
    if problems := _missing_files(folder):
        raise AdapterError(problems)


def _missing_files(folder: Path) -> list[Problem]:
    absent = [name for name in ADAPTER_FILES if not is_file(folder / name)]
    if not absent:
        return []
    names = [entry.name for entry in list_folder(folder)]
    pickled = [name for name in names if name.endswith(_PICKLED)]
    if absent == [ADAPTER_WEIGHTS] and pickled:
        message = f"{folder}: the adapter is in {pickled[0]}, a format that can run code when it is read; expected {ADAPTER_WEIGHTS}"
        hint = "If you trust it, load it with peft and save it again: save_pretrained(FOLDER)."
        return [Problem("", message, hint)]
    found = ", ".join(names[:5]) + (" …" if len(names) > 5 else "") or "nothing"
    message = f"{folder}: not an adapter: no {' and no '.join(absent)}; found {found}"
    hint = f"Give the folder that peft wrote, with {' and '.join(ADAPTER_FILES)}."
    return [Problem("", message, hint)]


def _config_content(folder: Path) -> tuple[Mapping[str, object], list[Problem]]:
    try:
        content = read_json(folder / ADAPTER_CONFIG)
    except ModelError as error:
        return {}, [Problem("", error.message, error.hint or _AGAIN)]
    if not content:
        return {}, [Problem("", f"{folder / ADAPTER_CONFIG}: the object is empty", _AGAIN)]
    return content, []


def _header(folder: Path) -> tuple[SafetensorsHeader | None, list[Problem]]:
    try:
        header = read_safetensors_header(folder / ADAPTER_WEIGHTS)
    except ModelError as error:
        return None, [Problem("", error.message, error.hint)]
    odd = [f"{one.name} in {one.dtype}" for one in header.tensors if one.dtype not in _FLOATS]
    if odd:
        message = (
            f"{header.file}: tensors that are not floating-point numbers: {'; '.join(odd[:3])}"
        )
        return header, [Problem("", message, _MERGE)]
    return header, []
