"""A model in memory: weights from a folder, on a device, in a number format, ready to answer.

Safetensors only, nothing from the network, no code from the folder unless the job says so. A tensor that is missing
or has another shape stops here: transformers alone would fill it with random numbers. Knows nothing of batches.
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

from batchgen.engines.torch.memory import out_of_memory
from batchgen.engines.torch.model_files import ModelFiles
from batchgen.engines.torch.quiet import quiet
from batchgen.errors import ModelError, ResourceError
from batchgen.job.spec import ModelSpec
from batchgen.records import Request

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_IMPLEMENTATIONS = {
    "_attn_implementation": {"eager", "sdpa", "flex_attention"},
    "_experts_implementation": {"eager", "batched_mm", "grouped_mm"},
}
"""What is part of torch and transformers. For any other name they look on the hub for a kernel."""
_SHOWN_TENSORS = 5


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Weights on a device.

    Attributes:
        encoder_decoder: whether prompts go to an encoder, as with T5.
        vocab_size: token ids from here on have no embedding.
        rope_switch: once a row is longer than this, the rotary embedding of its whole batch changes (LongRoPE,
            dynamic NTK), and some models compute their cache anew; None where nothing of the kind happens.
        files: where it was read from; None for a model that was made in memory.
    """

    model: PreTrainedModel
    device: torch.device
    dtype: torch.dtype
    encoder_decoder: bool
    vocab_size: int
    rope_switch: int | None = None
    files: ModelFiles | None = None

    def may_switch(self, request: Request) -> bool:
        """Whether this row may change its batch's rotary embedding; only rows of its length may be with it."""
        return self.switches_at(len(request.token_ids) + request.decoding.max_new_tokens)

    def switches_at(self, length: int) -> bool:
        """Whether a row of that length changes the rotary embedding of a batch that it is in."""
        return self.rope_switch is not None and length > self.rope_switch

    def before_answer(self, prompt: Sequence[int]) -> Sequence[int]:
        """What the decoder reads before the answer: the prompt, or the start token of an encoder-decoder."""
        if not self.encoder_decoder:
            return prompt
        config = self.model.generation_config
        start = config.decoder_start_token_id
        return [config.bos_token_id if start is None else start]

    def facts(self) -> Mapping[str, object]:
        """What decided the numbers."""
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
    """Load the model that lies in `folder`.

    Raises:
        ModelError: no such model, damaged or incomplete weights, or weights that only pickle could read.
        ResourceError: no such device, or too little memory.
    """
    device = pick_device(spec.device)
    if spec.device.startswith("cuda:"):
        # Some libraries start their kernels on the current device. Was never run on a GPU.
        torch.cuda.set_device(device)
    files = ModelFiles.look(folder, spec)
    config = read_config(folder, spec)
    loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    options: dict[str, Any] = {
        "config": config,
        "dtype": pick_dtype(spec.dtype, device),
        "use_safetensors": True,
        "local_files_only": True,
        "trust_remote_code": spec.trust_remote_code,
        # Both so that `_refuse_incomplete` can name the tensors.
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
    }
    with quiet(), _translated(folder):
        model, report = cast(Any, loader).from_pretrained(folder, **options)
        model = model.to(device).eval()
    _refuse_incomplete(folder, report)
    model.generation_config = _structural(model.generation_config)
    return LoadedModel(
        model=model,
        device=device,
        dtype=model.dtype,
        encoder_decoder=bool(config.is_encoder_decoder),
        vocab_size=model.get_input_embeddings().weight.shape[0],
        rope_switch=rope_switch(config),
        files=files,
    )


def read_config(folder: Path, spec: ModelSpec) -> PreTrainedConfig:
    """The model's config, without its weights.

    Raises:
        ModelError: there is none, it cannot be read, or it names code to be fetched.
    """
    if not folder.is_dir():
        raise ModelError(
            f"no such model folder: {folder}", hint="give the folder that holds config.json"
        )
    with quiet(), _translated(folder):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=spec.trust_remote_code, local_files_only=True
        )
    if spec.attn_implementation is not None:
        config._attn_implementation = spec.attn_implementation
    _refuse_foreign_code(folder, config)
    return config


def pick_device(asked: str) -> torch.device:
    """The device that `model.device` means; auto is cuda if there is one, else cpu.

    Raises:
        ResourceError: this machine has no such device.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(asked)
    there = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= there:
        raise ResourceError(
            f"model.device: {asked}: this machine has {there} {device.type} device(s)",
            hint="leave model.device out to use what there is",
        )
    return device


def pick_dtype(asked: str, device: torch.device) -> torch.dtype | str:
    """The dtype that `model.dtype` means; auto is float32 on a CPU, the checkpoint's elsewhere."""
    if asked != "auto":
        return _DTYPES[asked]
    return torch.float32 if device.type == "cpu" else "auto"


def planned_dtype(spec: ModelSpec, config: PreTrainedConfig, device: torch.device) -> torch.dtype:
    """The dtype that a model would have, from its config alone."""
    dtype = pick_dtype(spec.dtype, device)
    named = getattr(config, "dtype", None) or torch.float32
    return named if isinstance(dtype, str) else dtype


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        ImportError,
        MemoryError,
        SafetensorError,
    ) as error:
        if out_of_memory(error):
            raise ResourceError(
                f"{folder}: the weights do not fit in memory: {_first_line(error)}",
                hint="a smaller model, model.dtype: bfloat16, or another device",
            ) from error
        raise ModelError(
            f"{folder}: the model cannot be loaded: {_first_line(error)}",
            hint=_way_out(folder, error),
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


def _way_out(folder: Path, error: BaseException) -> str:
    if "trust_remote_code" in str(error):
        return "this model brings its own Python code; `model.trust_remote_code: true` runs it, so read it first"
    if isinstance(error, ImportError):
        return "install what it names, or take a model whose weights are not quantised"
    return _about_files(sorted(path.name for path in folder.iterdir()), error)


def _about_files(names: Sequence[str], error: BaseException) -> str:
    pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    tensors = [name for name in names if name.endswith(".safetensors")]
    if isinstance(error, SafetensorError) or "safetensors" in type(error).__name__.lower():
        return f"one of {', '.join(tensors)} is damaged or cut short: copy or download it again"
    if pickled and not tensors:
        return (
            f"the weights are only there as {', '.join(pickled)}, a format that can run code when it is read; "
            "convert them once with `model.save_pretrained(folder, safe_serialization=True)`"
        )
    if not tensors:
        return "the folder should hold config.json and model.safetensors"
    return "check that the folder is complete and that this version of transformers knows the model"


def _refuse_incomplete(folder: Path, report: Mapping[str, Any]) -> None:
    """Raise if weights would be random numbers. Tied weights are not in `missing_keys`."""
    missing = sorted(report["missing_keys"])
    mismatched = sorted(str(key[0]) for key in report["mismatched_keys"])
    problems = [
        f"{len(names)} tensor(s) {what}: {', '.join(names[:_SHOWN_TENSORS])}"
        + (", …" if len(names) > _SHOWN_TENSORS else "")
        for names, what in (
            (missing, "missing"),
            (mismatched, "of another shape than config.json says"),
        )
        if names
    ]
    if problems:
        raise ModelError(
            f"{folder}: {'; '.join(problems)}",
            hint="the weights are incomplete or belong to another config.json: copy or download the model again",
        )


def _refuse_foreign_code(folder: Path, config: PreTrainedConfig) -> None:
    """Raise if a config has transformers run code that did not come with it.

    Looks at what the file was made into: keys of config.json can be renamed by other keys of it.
    """
    for part in _parts(config):
        for name, known in _IMPLEMENTATIONS.items():
            value = vars(part).get(
                f"{name}_internal"
            )  # a property's place: some configs refuse to read it
            if value is not None and str(value) not in known and not _installed(str(value)):
                raise ModelError(
                    f"{folder / 'config.json'}: {name.removeprefix('_')}: {str(value)[:200]!r} would be fetched "
                    f"and run as code; expected one of {', '.join(sorted(known))}",
                    hint="take that key out of the file"
                    + (", or choose model.attn_implementation: sdpa" if "attn" in name else ""),
                )


def _parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """A config and those inside it, whether they are its sections or its layers."""
    yield config
    if getattr(config, "is_heterogeneous", False):
        yield from config.per_layer_config
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            yield from _parts(value)


def _installed(implementation: str) -> bool:
    return implementation == "flash_attention_2" and is_flash_attn_2_available()


def rope_switch(config: PreTrainedConfig) -> int | None:
    """The length from which on a config changes the rotary embedding of a whole batch; None if it never does."""
    text = config.get_text_config(decoder=True)
    rope = getattr(text, "rope_parameters", None) or {}
    # Models with several layer types have one set of parameters for each of them.
    several = [one for one in rope.values() if isinstance(one, dict)] or [rope]
    lengths = [
        int(one.get("original_max_position_embeddings") or text.max_position_embeddings)
        for one in several
        if one.get("rope_type") in ("longrope", "dynamic")
    ]
    return min(lengths, default=None)


def _structural(given: GenerationConfig | None) -> GenerationConfig:
    """What `generate` cannot do without. A model's own sampling settings apply only where the job asks for them."""
    kept = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(given, name, None) for name in kept})
