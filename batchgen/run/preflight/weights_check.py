"""What `validate` can check of the weights of a job's models without reading them."""

from pathlib import Path

from batchgen.engines.engine_registry import required_weights
from batchgen.engines.weight_compression import check_compression
from batchgen.errors import ModelError
from batchgen.job.spec import ModelSpec
from batchgen.jobfile.load import LoadedJob
from batchgen.models.find_model import find_on_disk
from batchgen.models.formats.compressed_weights import find_compression
from batchgen.models.formats.gguf_header import read_gguf_header
from batchgen.models.formats.gguf_model import is_gguf_file
from batchgen.models.local_model import model_specs
from batchgen.models.model_folder import (
    check_model_folder,
    check_tokenizer_folder,
    format_of,
)


def check_weights_on_disk(loaded: LoadedJob) -> None:
    """Check that the engines of the job and of its judges can compute with the weights of their models.

    Models that are not on this machine are left out: `plan` and `run` report them.

    Raises:
        ModelError: an engine cannot, or config.json, a GGUF file or a file of an OpenVINO model is damaged, missing or
            not supported.
    """
    for spec in model_specs(loaded.job):
        if is_gguf_file(spec.path or ""):
            read_gguf_header(Path(spec.path or "").expanduser())
        weights = required_weights(spec)
        folder = _folder(spec) if weights else None
        if folder is None or weights is None:
            continue
        if "openvino" in (weights, format_of(folder)):
            check_model_folder(folder, weights)
        if weights == "openvino" and spec.tokenizer is None:
            check_tokenizer_folder(folder)
        if found := find_compression(folder):
            check_compression(spec, found.method, found.file)


def _folder(spec: ModelSpec) -> Path | None:
    try:
        return find_on_disk(spec.path or "", spec.revision)
    except ModelError:
        return None
