"""Tiny random models of many families, and their reference answers: `generate` on one row at a time."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedModel,
)

from batchgen.engines.torch.batched_tier import BatchedTier
from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.generate.generate_runner import GenerateRunner, Grouping
from batchgen.engines.torch.model import LoadedModel, rope_switch
from batchgen.engines.torch.static.static_runner import StaticRunner
from batchgen.engines.torch.tier import TierOptions
from batchgen.job.spec import Batching
from batchgen.planning.batches import BatchLimits
from batchgen.records import Completion, Request, ResolvedDecoding
from tests.plain_decoder import PlainDecoder

torch.set_num_threads(1)

CPU = torch.device("cpu")
VOCABULARY = 97
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_STATES: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma3_text": {
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    },
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256},
    "gpt_neox": {},
    "mistral": {"head_dim": 8, "sliding_window": 6},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "mamba": {},
    "bamba": {**_STATES, "attn_layer_indices": [1]},
    "falcon_h1": {**_STATES, "head_dim": 8, "mamba_d_ssm": 64},
    "bloom": {"n_layer": 3, "n_head": 4},
    "phi3": {
        "original_max_position_embeddings": 16,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [1.0, 3.0, 9.0, 27.0],
            "original_max_position_embeddings": 16,
        },
    },
    "recurrent_gemma": {"head_dim": 8},
    "t5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
    },
}


def tiny_model(
    family: str, dtype: torch.dtype = torch.float64, **changes: object
) -> PreTrainedModel:
    """A random model whose answers differ from prompt to prompt. float64 avoids near ties between tokens.

    `changes`: of its config.
    """
    config = AutoConfig.for_model(family, **{**_COMMON, **FAMILIES[family], **changes})
    loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = loader.from_config(config).eval().to(dtype)
        for weight in model.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.25)
    start = 0 if config.is_encoder_decoder else None
    model.generation_config = GenerationConfig(decoder_start_token_id=start)
    return model


def loaded(model: PreTrainedModel) -> LoadedModel:
    encoder_decoder = bool(model.config.is_encoder_decoder)
    switch = rope_switch(model.config)
    return LoadedModel(model, CPU, model.dtype, encoder_decoder, VOCABULARY, switch)


def _spell(token_ids: Sequence[int]) -> str:
    return "".join(chr(0x100 + token) for token in token_ids)


spell = PlainDecoder(_spell)
"""Text of token ids: one printable character each, so that stop strings can be written down."""


def engine(model: PreTrainedModel, **batching: Any) -> TorchEngine:
    return TorchEngine(
        loaded(model), batching=Batching(**batching), decode=spell, should_stop=lambda: False
    )


def options(should_stop: Callable[[], bool] = lambda: False) -> TierOptions:
    return TierOptions(spell, should_stop, padding_tokens=10_000)


def cohort(model: PreTrainedModel, *, rows: int, forward_cost: int = 8) -> BatchedTier:
    """The static tier without a probe before it; a small `forward_cost` makes batches of several prefills."""
    runner = StaticRunner(loaded(model), options(), forward_cost=forward_cost)
    return BatchedTier(runner, BatchLimits(rows, 10_000, "none"), CPU, options())


def plain(model: PreTrainedModel, *, rows: int, grouping: Grouping = "padded") -> BatchedTier:
    """The tier through `generate`, without a probe before it."""
    runner = GenerateRunner(loaded(model), options(), grouping)
    return BatchedTier(runner, BatchLimits(rows, 10_000, "none"), CPU, options())


def prompts(count: int = 5, seed: int = 0) -> list[list[int]]:
    """Prompts of 3 to 30 tokens, in no order of length."""
    lengths = [5, 23, 11, 3, 17, 9, 30, 14][:count]
    source = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (n,), generator=source).tolist() for n in lengths]


def requests(
    token_ids: Sequence[Sequence[int]], *decodings: ResolvedDecoding, sample: int = 0
) -> list[Request]:
    """One request for each prompt; its seed is its row. Decodings are dealt out in turn."""
    dealt = decodings or (ResolvedDecoding(max_new_tokens=10),)
    return [
        Request(index, sample, ids, dealt[index % len(dealt)], seed=1000 + index)
        for index, ids in enumerate(token_ids)
    ]


def by_row(completions: Iterable[Completion]) -> dict[int, Completion]:
    found = list(completions)
    result = {one.index: one for one in found}
    assert len(result) == len(found), "a row was answered twice"
    return result


def generated(model: PreTrainedModel, prompt: Sequence[int], **config: Any) -> Any:
    """The output of `model.generate` for this prompt alone, greedy by default."""
    defaults: dict[str, Any] = {"do_sample": False, "pad_token_id": 0, "max_new_tokens": 10}
    untyped: Any = model
    return untyped.generate(
        torch.tensor([list(prompt)]), generation_config=GenerationConfig(**defaults | config)
    )


def alone(model: PreTrainedModel, prompt: Sequence[int], **config: Any) -> list[list[int]]:
    """New tokens of `model.generate` for this prompt alone, one list for each returned sequence."""
    start = 1 if model.config.is_encoder_decoder else len(prompt)
    return [row[start:] for row in generated(model, prompt, **config).tolist()]


def break_token(model: PreTrainedModel, token: int) -> None:
    """Make a token's input embedding NaN, but not its output embedding."""
    given: Any = model.get_input_embeddings()
    given.weight = torch.nn.Parameter(given.weight.detach().clone())
    with torch.no_grad():
        given.weight[token] = torch.nan


def teacher_forced(model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Mean log-probability of an answer, read from one forward over prompt and answer."""
    table = forced_table(model, prompt, answer)
    return sum(float(row[token]) for row, token in zip(table, answer, strict=True)) / len(answer)


def assert_recorded(model: PreTrainedModel, prompt: Sequence[int], answer: Completion) -> None:
    """Check the log-probabilities of each token against one forward over prompt and answer, in float64."""
    recorded = answer.token_logprobs
    assert recorded is not None
    table = forced_table(model, prompt, answer.token_ids)
    top = recorded.width - 1
    assert recorded.positions == len(answer.token_ids)
    ids = torch.tensor(recorded.token_ids).view(-1, recorded.width)
    logprobs = torch.tensor(recorded.logprobs, dtype=torch.float64).view(-1, recorded.width)
    assert ids[:, 0].tolist() == list(answer.token_ids)
    assert torch.allclose(logprobs, table.gather(1, ids), atol=1e-4)
    assert torch.allclose(logprobs[:, 1:], table.topk(top).values, atol=1e-4)
    assert all(len(set(row)) == top for row in ids[:, 1:].tolist())


def forced_table(model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Log-probabilities float64 [answer, vocab] at each token of an answer, from one forward over prompt and answer."""
    inputs = {"input_ids": torch.tensor([[*prompt, *answer[:-1]]])}
    if model.config.is_encoder_decoder:
        inputs = {
            "input_ids": torch.tensor([list(prompt)]),
            "decoder_input_ids": torch.tensor([[0, *answer[:-1]]]),
        }
    with torch.inference_mode():
        logits = model(**inputs).logits[0, -len(answer) :]
    return torch.log_softmax(logits.double(), -1)
