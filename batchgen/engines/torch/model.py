"""Loads a model from a folder onto a device.

Safetensors only, nothing from the network, no code from the folder unless the job allows it. A tensor that is missing
or has another shape is an error: transformers would fill it with random numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils.import_utils import is_flash_attn_2_available

from batchgen.engines.torch.adapter.merge_adapter import merge_adapter
from batchgen.engines.torch.memory import out_of_memory
from batchgen.engines.torch.model_files import ModelFiles
from batchgen.engines.torch.precision.torch_machine import TorchMachine
from batchgen.engines.torch.quiet import first_line, quiet, unknown_word
from batchgen.engines.torch.weight_bounds import StoredWeights, bounded_by
from batchgen.engines.torch.weights.missing_tensors import refuse_incomplete
from batchgen.engines.torch.weights.tensor_reader import tensors_read_once
from batchgen.engines.torch.weights.weight_release import WeightRelease
from batchgen.errors import BatchgenError, ModelError, ResourceError
from batchgen.job.spec import ModelSpec
from batchgen.lora.adapter_folder import read_adapter
from batchgen.planning.dtype_choice import ChosenDtype, choose_dtype
from batchgen.records import Request
from batchgen.storage.entries import is_folder, list_folder

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_IMPLEMENTATIONS = {
    "_attn_implementation": {"eager", "sdpa", "flex_attention"},
    "_experts_implementation": {"eager", "batched_mm", "grouped_mm"},
}
"""Parts of torch and transformers. For any other name transformers downloads a kernel from the hub."""
PLAIN_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""Models all of whose tensors have the model's dtype."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Weights on a device.

    Attributes:
        vocab_size: rows of the embedding; higher token ids are invalid.
        rope_switch: length above which a row changes the rotary embedding of its whole batch (LongRoPE, dynamic
            NTK), and some models recompute their cache; None if this does not happen.
        files: the files it was read from; None for a model that was made in memory.
        release: frees its weights; None if it must keep them.
    """

    model: PreTrainedModel
    device: torch.device
    dtype: torch.dtype
    encoder_decoder: bool
    vocab_size: int
    rope_switch: int | None = None
    files: ModelFiles | None = None
    release: WeightRelease | None = None

    def may_switch(self, request: Request) -> bool:
        """Whether this row may change the rotary embedding of its batch; it may be batched only with rows of its length."""
        return self.switches_at(len(request.token_ids) + request.decoding.max_new_tokens)

    def switches_at(self, length: int) -> bool:
        return self.rope_switch is not None and length > self.rope_switch

    def before_answer(self, prompt: Sequence[int]) -> Sequence[int]:
        """Decoder input before the answer: the prompt, or the start token of an encoder-decoder."""
        if not self.encoder_decoder:
            return prompt
        config = self.model.generation_config
        start = config.decoder_start_token_id
        return [config.bos_token_id if start is None else start]

    def facts(self) -> Mapping[str, object]:
        return {
            "architecture": type(self.model).__name__,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "attn_implementation": self.model.config._attn_implementation,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }


def load_model(folder: Path, spec: ModelSpec) -> LoadedModel:
    """Load the model in `folder`.

    Raises:
        ModelError: no such model, damaged or incomplete weights, weights that only pickle could read, or an adapter that
            does not fit.
        ResourceError: no such device, or too little memory.
    """
    device = pick_device(spec.device)
    if spec.device.startswith("cuda:"):
        # Some libraries start their kernels on the current device. Was never run on a GPU.
        torch.cuda.set_device(device)
    files = ModelFiles.scan(folder, spec)
    config = read_config(folder, spec)
    loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    dtype = _loader_dtype(pick_dtype(spec, config))
    options: dict[str, Any] = {
        "config": config,
        "dtype": dtype,
        "use_safetensors": True,
        "local_files_only": True,
        "trust_remote_code": spec.trust_remote_code,
        # Both so that `refuse_incomplete` can name the tensors.
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
    }
    with building(folder), tensors_read_once(dtype, narrowing=config.model_type in PLAIN_TYPES):
        model, report = cast(Any, loader).from_pretrained(folder, **options)
        model = model.to(device).eval()
    refuse_incomplete(folder, report)
    if spec.adapter is not None:
        with _translated(folder):
            merge_adapter(model, read_adapter(Path(spec.adapter)), folder)
    model.generation_config = _structural(model.generation_config)
    return LoadedModel(
        model=model,
        device=device,
        dtype=model.dtype,
        encoder_decoder=bool(config.is_encoder_decoder),
        vocab_size=model.get_input_embeddings().weight.shape[0],
        rope_switch=rope_switch(config),
        files=files,
        release=_release(model, files) if device.type == "cpu" else None,
    )


def _release(model: PreTrainedModel, files: ModelFiles) -> WeightRelease:
    name = str(model.dtype).removeprefix("torch.")
    spec = files.spec.model_copy(update={"dtype": name if name in _DTYPES else "auto"})

    def reload() -> PreTrainedModel:
        if not files.unchanged():
            raise ModelError(
                f"{files.folder}: its files have changed since the model was loaded, and its weights are needed again",
                hint="Run again.",
            )
        return load_model(files.folder, spec).model

    return WeightRelease(model, reload)


def read_config(folder: Path, spec: ModelSpec) -> PreTrainedConfig:
    """The model's config. Raises ModelError if there is none, it cannot be read, or it names code to be fetched."""
    if not is_folder(folder):
        raise ModelError(
            f"no such model folder: {folder}", hint="Give the folder that contains config.json."
        )
    with quiet(), _translated(folder):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=spec.trust_remote_code, local_files_only=True
        )
    if spec.attn_implementation is not None:
        config._attn_implementation = spec.attn_implementation
    _reject_remote_code(folder, config)
    return config


def pick_device(requested: str) -> torch.device:
    """The device for `model.device`; auto is cuda if available, else cpu. Raises ResourceError if there is none."""
    if requested == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(requested)
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise ResourceError(
            f"model.device: {requested}: this machine has {count} {device.type} device(s)",
            hint="Remove model.device to use an available device.",
        )
    return device


def pick_dtype(spec: ModelSpec, config: PreTrainedConfig) -> ChosenDtype:
    """The dtype of a model; where the job's has not been chosen yet, this is done here, as for a new run."""
    stated = (getattr(one, "dtype", None) for one in (config, config.get_text_config(decoder=True)))
    checkpoint = next((str(dtype).removeprefix("torch.") for dtype in stated if dtype), "unknown")
    return choose_dtype(spec, checkpoint, TorchMachine())


def planned_dtype(spec: ModelSpec, config: PreTrainedConfig) -> torch.dtype:
    """The dtype of a model, from its config alone."""
    dtype = _loader_dtype(pick_dtype(spec, config))
    named = getattr(config, "dtype", None) or torch.float32
    return named if isinstance(dtype, str) else dtype


def _loader_dtype(chosen: ChosenDtype) -> torch.dtype | str:
    """For transformers: a dtype that a job can name, else that of the checkpoint."""
    return _DTYPES.get(chosen.dtype, "auto")


@contextmanager
def building(folder: Path) -> Iterator[StoredWeights]:
    """Build the model of `folder` in this block, with or without its weights, whose headers are read before.

    Raises:
        ModelError: transformers cannot build it, or it is much larger than its weights.
        ResourceError: too little memory.
    """
    with quiet(), _translated(folder):
        stored = StoredWeights.read(folder)
        with bounded_by(stored, folder):
            yield stored


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except BatchgenError:
        raise
    except Exception as error:  # configs and weights make transformers raise any class
        if out_of_memory(error):
            raise ResourceError(
                f"{folder}: the weights do not fit in memory: {first_line(error)}",
                hint="Use a smaller model, model.dtype: bfloat16, or another device.",
            ) from error
        cause = unknown_word(folder, error) or f"the model cannot be loaded: {first_line(error)}"
        raise ModelError(f"{folder}: {cause}", hint=_load_hint(folder, error)) from error


def _load_hint(folder: Path, error: BaseException) -> str:
    if "trust_remote_code" in str(error):
        return (
            "Read the Python code of this model, then allow it with model.trust_remote_code: true."
        )
    if isinstance(error, ImportError):
        return "Install the named package, or use a model without quantised weights."
    return _file_hint([path.name for path in list_folder(folder)], error)


def _file_hint(names: Sequence[str], error: BaseException) -> str:
    pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    tensors = [name for name in names if name.endswith(".safetensors")]
    if isinstance(error, SafetensorError) or "safetensors" in type(error).__name__.lower():
        return f"Copy or download the model again: one of {', '.join(tensors)} is damaged."
    if pickled and not tensors:
        return (
            "Convert the weights with `model.save_pretrained(folder, safe_serialization=True)`: "
            f"{', '.join(pickled)} is in a format that can run code when it is read."
        )
    if not tensors:
        return "Give a folder that contains config.json and model.safetensors."
    return "Check that the folder is complete and that this version of transformers supports the model."


def _reject_remote_code(folder: Path, config: PreTrainedConfig) -> None:
    """Raise if a loaded config makes transformers run code that is not part of it; keys in the file can rename others."""
    for part in _parts(config):
        for name, known in _IMPLEMENTATIONS.items():
            # The field behind the property: some configs cannot read the property.
            value = vars(part).get(f"{name}_internal")
            if value is not None and str(value) not in known and not _installed(str(value)):
                raise ModelError(
                    f"{folder / 'config.json'}: {name.removeprefix('_')}: {str(value)[:200]!r} would be fetched "
                    f"and run as code; expected one of {', '.join(sorted(known))}",
                    hint="Remove this key from the file"
                    + (", or set model.attn_implementation: sdpa." if "attn" in name else "."),
                )


def _parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """A config and all configs inside it: sections and layers."""
    yield config
    if getattr(config, "is_heterogeneous", False):
        yield from config.per_layer_config
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            yield from _parts(value)


def _installed(implementation: str) -> bool:
    return implementation == "flash_attention_2" and is_flash_attn_2_available()


def rope_switch(config: PreTrainedConfig) -> int | None:
    """The length above which a model changes the rotary embedding of a whole batch; None if it never does."""
    text = config.get_text_config(decoder=True)
    rope = getattr(text, "rope_parameters", None) or {}
    # Models with several layer types have one set of parameters for each type.
    several = [one for one in rope.values() if isinstance(one, dict)] or [rope]
    lengths = [
        int(one.get("original_max_position_embeddings") or text.max_position_embeddings)
        for one in several
        if one.get("rope_type") in ("longrope", "dynamic")
    ]
    return min(lengths, default=None)


def _structural(config: GenerationConfig | None) -> GenerationConfig:
    """The settings that `generate` requires. Sampling settings of a model apply only with preset: model."""
    kept = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(config, name, None) for name in kept})
