"""A tiny model that generates a given chain of tokens: the next token is a function of the last one.

Its layers add nothing, and the row of each token in the head is the embedding of the token before it in the chain.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

WIDTH = 64


def write_scripted_model(
    folder: Path,
    tokenizer: Any,
    chain: Sequence[int],
    *,
    rows: int | None = None,
    config: Mapping[str, Any] | None = None,
    generation_config: Mapping[str, Any] | None = None,
) -> None:
    """Write a model with `rows` tokens (default: those of the tokenizer), and the tokenizer. The tokens of a chain differ."""
    size = rows or len(tokenizer)
    settings = {
        "vocab_size": size,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(LlamaConfig(**{**settings, **(config or {})}))
        embedding = torch.nn.functional.normalize(torch.randn(size, WIDTH), dim=1)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(8 * embedding)
        model.lm_head.weight.zero_()
        for token, following in pairwise(chain):
            model.lm_head.weight[following] += embedding[token]
    for name, value in (generation_config or {}).items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
