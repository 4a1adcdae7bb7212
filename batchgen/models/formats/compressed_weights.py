"""Which method a checkpoint's weights are compressed with, from its JSON files: they need that method's own programs."""

from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ModelError
from batchgen.models.config_check import text_section
from batchgen.models.model_folder import CONFIG_FILE
from batchgen.storage.entries import is_file
from batchgen.storage.json_file import read_json

SECTIONS = ("quantization_config", "compression_config")
"""Keys of config.json; the second is that of older files of compressed-tensors."""
_OWN_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}
"""Files of older tools, which leave config.json as it is, and the method of each."""
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Compression:
    """A method, such as gptq, as the model's files name it; and the file that names it."""

    method: str
    file: Path


def find_compression(folder: Path) -> Compression | None:
    """The compression of the weights in a model's folder; None if they are plain numbers, or without a config.json.

    Raises:
        ModelError: config.json is damaged.
    """
    file = folder / CONFIG_FILE
    if not is_file(file):
        return None
    config = read_json(file)
    parts = (config, text_section(config))
    if section := next(filter(None, (part.get(key) for part in parts for key in SECTIONS)), None):
        if not isinstance(section, dict):
            raise ModelError(
                f"{file}: quantization_config is a {type(section).__name__}, expected a JSON object",
                hint="Copy or download config.json again.",
            )
        return Compression(_method(section), file)
    for name, method in _OWN_FILES.items():
        if is_file(folder / name):
            return Compression(method, folder / name)
    return None


def _method(section: dict[str, object]) -> str:
    stated = section.get("quant_method")
    if isinstance(stated, str) and stated:
        return stated[:_SHOWN]
    # Older files of bitsandbytes do not name it.
    if section.get("load_in_4bit") or section.get("load_in_8bit"):
        return "bitsandbytes"
    return "compressed-tensors" if "config_groups" in section else "an unnamed method"
