"""Engines that compute a model need its folder."""

from pathlib import Path

from batchgen.engines.contract import EngineInfo
from batchgen.errors import UsageError

_EXAMPLES = {
    "safetensors": "a folder, demo:smollm2-135m or a model id",
    "openvino": "the folder of a model that was converted for OpenVINO",
}
"""What `model.path` can be, by the format of the weights."""


def required_folder(folder: Path | None, info: EngineInfo) -> Path:
    """The folder of the model.

    Raises:
        UsageError: there is none.
    """
    if folder is None:
        raise UsageError(
            f"engine {info.name} needs a model",
            hint=f"Set model.path to {_EXAMPLES[info.weight_format]}.",
        )
    return folder
