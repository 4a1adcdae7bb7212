"""Converts a GGUF file to a folder with safetensors that transformers loads without gguf.

Runs in a process of its own (`python -m batchgen.models.demo.convert GGUF FOLDER PRE_TOKENIZER`): its memory is freed, and
its imports, bars and warnings stay out of the run. The caller publishes the folder.
"""

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STEPS = (
    "reading the weights",
    "reading the tokenizer",
    "writing safetensors",
    "comparing them with the source",
)
"""Lines that the process prints, in this order."""
WEIGHTS_FILE = "model.safetensors"


def convert(gguf: Path, folder: Path, *, pre_tokenizer: str) -> None:
    """Write config, generation config, tokenizer, chat template and float32 weights of `gguf` into `folder`.

    Args:
        gguf: the file; transformers must know its architecture.
        folder: an empty folder.
        pre_tokenizer: the file's field `tokenizer.ggml.pre`, which transformers does not read; values other than
            "smollm" leave the tokenizer unchanged.

    Raises:
        ValueError: a written tensor differs from the one read.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _announce(0)
    source = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
    )
    _announce(1)
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, trust_remote_code=False
    )
    if pre_tokenizer == "smollm":
        _split_digits(tokenizer.backend_tokenizer)
    # GGUF has no such field, and transformers then writes 10**30.
    tokenizer.model_max_length = source.config.max_position_embeddings
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    _announce(2)
    _write_model(source, folder)
    _announce(3)
    _compare(source.state_dict(), folder / WEIGHTS_FILE, tied=source.all_tied_weights_keys)
    for file in folder.iterdir():
        # save_pretrained makes the weights readable only by their owner; the cache may be shared.
        file.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
        _flush(file)


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


def _write_model(source: Any, folder: Path) -> None:  # noqa: ANN401  (any model of transformers)
    """Save through a new model: one loaded from GGUF counts as quantised, and cannot be saved."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    facts = source.config.to_dict()
    for leftover in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        facts.pop(leftover, None)
    config = AutoConfig.for_model(facts.pop("model_type"), **facts)
    with torch.device("meta"):
        clean = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]  # untyped in transformers
            config, dtype=torch.float32
        )
    clean.load_state_dict(source.state_dict(), assign=True)
    clean.tie_weights()
    clean.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # untyped in transformers
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    clean.save_pretrained(folder, max_shard_size="100GB")


def _compare(expected: Mapping[str, Any], file: Path, *, tied: Mapping[str, str]) -> None:
    import torch
    from safetensors import safe_open

    with safe_open(file, framework="pt") as written:
        names = set(written.keys())
        if names != set(expected) - set(tied):
            odd = sorted(names ^ (set(expected) - set(tied)))
            raise ValueError(f"{file.name} lacks or adds tensors: {', '.join(odd[:5])}")
        for name in names:
            if not torch.equal(written.get_tensor(name), expected[name]):
                raise ValueError(f"{file.name}: tensor {name} differs from the GGUF file's")


def _flush(file: Path) -> None:
    with file.open("r+b") as opened:
        os.fsync(opened.fileno())


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), pre_tokenizer=sys.argv[3])
