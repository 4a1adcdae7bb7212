"""Converts a GGUF file to a folder with safetensors that transformers loads without gguf.

Runs in a process of its own (`python -m batchgen.models.formats.convert GGUF FOLDER`): its memory is freed, and its
imports, bars and warnings stay out of the run. The caller publishes the folder.
"""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from batchgen.errors import ModelError
from batchgen.models.formats.gguf_header import (
    ROPE_FACTORS,
    SINGLE_DIGITS,
    GgufHeader,
    read_gguf_header,
)
from batchgen.storage.processes import end_with_parent

STEPS = (
    "reading the weights",
    "reading the tokenizer",
    "writing safetensors",
    "comparing them with the source",
)
"""Lines that the process prints, in this order."""
WEIGHTS_FILE = "model.safetensors"
END_OF_TURN = "tokenizer.ggml.eot_token_id"
_LLAMA_3 = {
    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
}  # fmt: skip


def convert(gguf: Path, folder: Path) -> None:
    """Write config, generation config, tokenizer, chat template and weights of `gguf` into `folder`.

    The weights are written in float32, or in bfloat16 or float16 if that changes none of them.

    Raises:
        ModelError: the file is damaged or not supported.
        ValueError: a tensor would be lost, or a written one differs from the one read.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    header = read_gguf_header(gguf)
    _read_once()
    _announce(0)
    loader: Any = AutoModelForCausalLM
    source, report = loader.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        config=_config(header),
        dtype=torch.float32,
        trust_remote_code=False,
        # Both so that `_require_every_tensor` can name the tensors.
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    _require_every_tensor(header, source, report)
    _announce(1)
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, trust_remote_code=False
    )
    if header.pre_tokenizer in SINGLE_DIGITS:
        _split_digits(tokenizer.backend_tokenizer)
    # GGUF has no such field, and transformers then writes 10**30.
    tokenizer.model_max_length = source.config.max_position_embeddings
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    _announce(2)
    expected = source.state_dict()
    dtype = _narrowest(expected.values())
    tied = _write_model(source, folder, header, dtype)
    _announce(3)
    _compare(expected, folder / WEIGHTS_FILE, tied=tied)
    for file in folder.iterdir():
        # save_pretrained makes the weights readable only by their owner; the cache may be shared.
        file.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
        _flush(file)


def _read_once() -> None:
    """Keep what transformers reads again and again: the file for config, weights and tokenizer, the names for each module.

    That was half of a conversion. The file is read as a plain array: slices of numpy's memmap, of which a vocabulary has
    hundreds of thousands, were a quarter of the rest. It holds for this process, which converts one file and ends.
    """
    import gguf
    import numpy as np

    library: Any = gguf

    class PlainReader(library.GGUFReader):  # type: ignore[misc]  # gguf has no types
        @property
        def data(self) -> Any:  # noqa: ANN401  (an array of bytes)
            return self._plain

        @data.setter
        def data(self, mapped: Any) -> None:  # noqa: ANN401
            self._plain = mapped.view(np.ndarray)

    library.GGUFReader = cache(PlainReader)
    library.get_tensor_name_map = cache(library.get_tensor_name_map)


def _config(header: GgufHeader) -> Any:  # noqa: ANN401  (any config of transformers)
    """The config, with the width of heads, which transformers does not read for some architectures."""
    from transformers import AutoConfig

    file = header.file
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    width = header.values.get(f"{header.architecture}.attention.key_length")
    if width is not None and hasattr(config, "head_dim"):
        config.head_dim = width
    return config


def _require_every_tensor(header: GgufHeader, source: Any, report: Mapping[str, Any]) -> None:  # noqa: ANN401  (any model of transformers)
    """Transformers leaves out tensors that it does not expect, and fills those that are missing with random numbers."""
    from transformers import modeling_gguf_pytorch_utils

    gguf: Any = modeling_gguf_pytorch_utils
    process = gguf.TENSOR_PROCESSORS.get(header.architecture, gguf.TensorProcessor)
    names = gguf.get_gguf_hf_weights_map(source, process(config=source.config.to_dict()))
    # The merged experts of a layer are in the map without their ending.
    used = {*names, *(f"{name}.weight" for name in names if name.endswith("_exps")), ROPE_FACTORS}
    lost = sorted({tensor.name for tensor in header.tensors} - used)
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lost or missing:
        raise ValueError(
            f"transformers does not load {', '.join(lost[:5]) or 'nothing of the file'} "
            f"and fills {', '.join(missing[:5]) or 'nothing'} with random numbers"
        )


def _narrowest(tensors: Iterable[Any]) -> Any:  # noqa: ANN401  (a dtype of torch)
    """The dtype of two bytes in which every tensor is exact, else float32."""
    import torch

    exact = [torch.bfloat16, torch.float16]
    for tensor in tensors:
        exact = [dtype for dtype in exact if torch.equal(tensor.to(dtype).float(), tensor)]
    return next(iter(exact), torch.float32)


def _announce(step: int) -> None:
    sys.stdout.write(f"{STEPS[step]}\n")
    sys.stdout.flush()


def _split_digits(backend: Any) -> None:  # noqa: ANN401  (a class of a library without types)
    """Restore what transformers drops from a "smollm" tokenizer: every digit is a token of its own.

    It matters for blanks before a digit: in "a  1" both blanks are one token, as in the model's training.
    """
    from tokenizers import pre_tokenizers

    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )


def _write_model(
    source: Any,  # noqa: ANN401  (any model of transformers)
    folder: Path,
    header: GgufHeader,
    dtype: Any,  # noqa: ANN401  (a dtype of torch)
) -> Mapping[str, str]:
    """Save through a new model: one loaded from GGUF counts as quantised, and cannot be saved. Returns its tied tensors."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    facts = source.config.to_dict()
    for leftover in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        facts.pop(leftover, None)
    if any(tensor.name == ROPE_FACTORS for tensor in header.tensors):
        facts["rope_parameters"] = _llama_3_rope(header.file, facts)
    config = AutoConfig.for_model(facts.pop("model_type"), **facts)
    with torch.device("meta"):
        clean = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]  # untyped in transformers
    weights = {name: tensor.to(dtype) for name, tensor in source.state_dict().items()}
    clean.load_state_dict(weights, assign=True)
    clean.tie_weights()
    ends = [config.eos_token_id, header.values.get(END_OF_TURN)]
    ends = list(dict.fromkeys(end for end in ends if end is not None))
    clean.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # untyped in transformers
        bos_token_id=config.bos_token_id,
        eos_token_id=ends[0] if len(ends) == 1 else ends or None,
        pad_token_id=config.pad_token_id,
    )
    clean.save_pretrained(folder, max_shard_size="100GB")
    tied: Mapping[str, str] = clean.all_tied_weights_keys
    return tied


def _llama_3_rope(file: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary embedding of Llama 3, whose factors must be those that the file has as a tensor.

    Raises:
        ValueError: they are others.
    """
    import numpy as np
    import torch
    from gguf import GGUFReader
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    (tensor,) = (t for t in GGUFReader(file).tensors if t.name == ROPE_FACTORS)
    stated = np.array(tensor.data, dtype=np.float32)
    plain = {"rope_type": "default", "rope_theta": facts["rope_parameters"]["rope_theta"]}
    rope = {**plain, "rope_type": "llama3", "factor": float(stated.max()), **_LLAMA_3}
    config = AutoConfig.for_model(**{**facts, "rope_parameters": rope})
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    width = 2 * len(stated)
    unscaled = plain["rope_theta"] ** (-torch.arange(0, width, 2).double() / width)
    if not np.allclose(unscaled / scaled, stated, rtol=1e-3):
        raise ValueError(f"{ROPE_FACTORS} has other factors of the rotary embedding than Llama 3")
    return rope


def _compare(expected: Mapping[str, Any], file: Path, *, tied: Mapping[str, str]) -> None:
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    for name, other in tied.items():
        # Some files have both, which are then equal.
        if not torch.equal(expected[name], expected[other]):
            raise ValueError(f"tensor {name} differs from {other}, with which its model shares it")
    with safe_open(file, framework="pt") as written:
        names = set(written.keys())
        if names == set(expected) - set(tied):
            _require_equal(file, expected, dict.fromkeys(names, written.get_tensor))
            return
    # Experts are written one by one, and merged again when the model is loaded.
    loader: Any = AutoModelForCausalLM
    read = loader.from_pretrained(file.parent, dtype="auto", trust_remote_code=False).state_dict()
    if odd := sorted(set(read) ^ set(expected)):
        raise ValueError(f"{file.name} lacks or adds tensors: {', '.join(odd[:5])}")
    _require_equal(file, expected, dict.fromkeys(read, read.__getitem__))


def _require_equal(
    file: Path, expected: Mapping[str, Any], written: Mapping[str, Callable[[str], Any]]
) -> None:
    import torch

    for name, read in written.items():
        if not torch.equal(read(name).float(), expected[name]):
            raise ValueError(f"{file.name}: tensor {name} differs from the GGUF file's")


def _flush(file: Path) -> None:
    with file.open("r+b") as opened:
        os.fsync(opened.fileno())


if __name__ == "__main__":
    end_with_parent(os.getppid())
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except ModelError as error:
        sys.exit(error.message)
