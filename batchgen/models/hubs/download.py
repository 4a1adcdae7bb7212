"""Downloads one model into the hub's cache, in a process of its own, the only one that connects.

`python -m batchgen.models.hubs.download ID REVISION CACHE ENDPOINT FILE` prints one JSON object: {"folder"} or {"problem"}.
The run must stay offline, and huggingface_hub reads HF_HUB_OFFLINE only when it is imported.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from batchgen.storage.openvino_header import OPENVINO_GRAPH, OPENVINO_WEIGHTS
from batchgen.storage.processes import end_with_parent

PATTERNS = (
    "*.safetensors", "*.json", "*.jinja", "*.py", "*.model", "*.tiktoken",
    "merges.txt", "vocab.txt", "*/merges.txt", "*/vocab.txt", OPENVINO_GRAPH, OPENVINO_WEIGHTS,
)  # fmt: skip
"""Weights in safetensors or of OpenVINO, and text files. Python files run only with `model.trust_remote_code`."""
DUPLICATES = (
    "consolidated*",
    "original/*",
    "onnx/*",
    "openvino/*",
    "coreml/*",
    "*.fp16.safetensors",
)
"""Copies of the same weights for other programs."""


def download(model_id: str, revision: str, *, cache: Path, endpoint: str, file: str = "") -> Path:
    """Complete the snapshot in the cache, or only one file of it, and return its folder.

    Raises:
        FileNotFoundError: the repository does not contain the file.
        OSError, ValueError: as huggingface_hub.
    """
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        model_id,
        revision=revision,
        cache_dir=cache,
        endpoint=endpoint,
        allow_patterns=[file] if file else list(PATTERNS),
        ignore_patterns=[] if file else list(DUPLICATES),
    )
    if file and not (Path(folder) / file).exists():
        raise FileNotFoundError(f"{model_id} has no file {file} at revision {revision}")
    return Path(folder)


def problem(error: Exception, model_id: str, revision: str) -> str:
    """An error of huggingface_hub in one line."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{model_id} is gated: request access on its page, then set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{model_id} does not exist, or is private and HF_TOKEN is not set"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{model_id} has no revision {revision}"
    return first_line(error)


def first_line(error: BaseException) -> str:
    """The type of an error and the start of its message."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def main(arguments: Sequence[str]) -> None:
    """Download, and print the result as JSON."""
    model_id, revision, cache, endpoint, file = arguments
    try:
        folder = download(model_id, revision, cache=Path(cache), endpoint=endpoint, file=file)
        result = {"folder": str(folder)}
    except (OSError, ValueError, RuntimeError) as error:
        result = {"problem": problem(error, model_id, revision)}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    end_with_parent(os.getppid())
    main(sys.argv[1:])
