"""Unmodified models of many families on packed steps: the same greedy tokens as `generate` on each row alone.

Weights are random and in float64, so that equal tokens mean equal arithmetic; expert layers need float32.
"""

import random
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from batchgen.engines.torch.continuous.continuous_tier import (
    BatchShape,
    ContinuousTier,
    StepBackend,
)
from batchgen.engines.torch.continuous.forward.llama import LlamaForward
from batchgen.engines.torch.continuous.forward.transformers_model import TransformersForward
from batchgen.engines.torch.continuous.kv_store import KVStore, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.engines.torch.continuous.token_picker import TokenSampler
from batchgen.engines.torch.continuous.workers import Forward, InProcess
from batchgen.engines.torch.tier import NoText, TierOptions
from batchgen.records import Completion, Request, ResolvedDecoding

VOCAB = 97
BASE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "head_dim": 8,
}
SLIDING = ["sliding_attention", "full_attention"]
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
LATENT = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 16,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_shared_experts": 1,
    "num_key_value_heads": 4,
    "head_dim": None,
}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "smollm3": {"no_rope_layers": [1, 0]},
    "mistral": {"sliding_window": None},
    "mistral, sliding": {"model_type": "mistral", "sliding_window": 6},
    "ministral": {"layer_types": SLIDING, "sliding_window": 6},
    "phi": {},
    "phi3": {},
    "gemma": {},
    "gemma2": {"sliding_window": 6, "query_pre_attn_scalar": 8, "layer_types": SLIDING},
    "gemma3_text": {"sliding_window": 6, "query_pre_attn_scalar": 8, "layer_types": SLIDING},
    "olmo": {},
    "olmo2": {},
    "olmo3": {"sliding_window": 6, "layer_types": SLIDING},
    "granite": {},
    "cohere": {},
    "cohere2": {"sliding_window": 6, "layer_types": SLIDING},
    "stablelm": {},
    "starcoder2": {"sliding_window": None},
    "gpt2": GPT,
    "gpt_bigcode": {**GPT, "multi_query": True},
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "biogpt": {},
    "nemotron": {},
    "glm": {},
    "glm4": {},
    "helium": {},
    "arcee": {},
    "ernie4_5": {},
    "hunyuan_v1_dense": {},
    "seed_oss": {},
    "apertus": {},
    "exaone4": {"sliding_window": 6, "layer_types": SLIDING},
    "bitnet": {},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen3_moe": EXPERTS,
    "olmoe": EXPERTS,
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 6,
        "layer_types": SLIDING,
    },
    "deepseek_v3": LATENT,
}
FLOAT32 = {"mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "phimoe", "gpt_oss"} | {
    "deepseek_v3"
}
OWN_FORWARD = ("llama", "qwen2", "qwen3", "mistral", "mistral, sliding")

_random = random.Random(0)
SYSTEM = [_random.randrange(3, VOCAB) for _ in range(20)]
PROMPTS = [[_random.randrange(3, VOCAB) for _ in range(n)] for n in (5, 19, 11, 2, 1, 9)]
PROMPTS = [SYSTEM + prompt if n % 2 else prompt for n, prompt in enumerate(PROMPTS)]
LIMITS = (7, 4, 9, 5, 8, 1)


@dataclass(frozen=True)
class Case:
    """The batch size, the steps that run out of memory, and whether answers are expected."""

    name: str
    shape: BatchShape
    sizes: KVStoreSizes
    lost: tuple[int, ...] = ()
    expected: int = 1


CASES = (
    Case(
        "one place, nothing shared",
        BatchShape(1, 512, share_prefixes=False),
        KVStoreSizes(16, 16, 0),
    ),
    Case("three places, prompts in chunks", BatchShape(3, 7), KVStoreSizes(64, 4, 64)),
    Case("all places, a shared beginning", BatchShape(8, 512), KVStoreSizes(16, 64, 64)),
    Case("too few pages", BatchShape(8, 64), KVStoreSizes(24, 2, 64), expected=0),
    Case("no space for a shared prefix", BatchShape(8, 64), KVStoreSizes(64, 8, 10)),
    Case("memory runs out", BatchShape(8, 64), KVStoreSizes(64, 8, 64), lost=(0, 3)),
)


@cache
def tiny(family: str) -> PreTrainedModel:
    """A random model whose answers differ from row to row."""
    settings = {**BASE, **FAMILIES[family]}
    kind = settings.pop("model_type", family)
    settings = {key: value for key, value in settings.items() if value is not None or "slid" in key}
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader: Any = AutoModelForCausalLM
        model: PreTrainedModel = loader.from_config(AutoConfig.for_model(kind, **settings)).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.25)
    return model if family in FLOAT32 else model.double()


@cache
def alone(family: str) -> list[list[int]]:
    """The answer of `generate` to each prompt alone."""
    answers = []
    model: Any = tiny(family)
    for prompt, limit in zip(PROMPTS, LIMITS, strict=True):
        made = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        answers.append(made[0, len(prompt) :].tolist())
    return answers


class Losing:
    """A forward that runs out of memory at some steps."""

    def __init__(self, forward: Forward, lost: tuple[int, ...]) -> None:
        self.forward = forward
        self.lost = lost
        self.steps = 0

    def __call__(self, batch: StepBatch, store: KVStore) -> Tensor:
        self.steps += 1
        logits = self.forward(batch, store)
        if self.steps - 1 in self.lost:
            raise torch.OutOfMemoryError
        return logits


def run(forward: Forward, case: Case) -> tuple[ContinuousTier, Iterable[Completion]]:
    requests = [
        Request(index, 0, prompt, ResolvedDecoding(max_new_tokens=limit), seed=0)
        for index, (prompt, limit) in enumerate(zip(PROMPTS, LIMITS, strict=True))
    ]
    random.Random(case.name).shuffle(requests)
    options = TierOptions(NoText(), lambda: False, padding_tokens=0)
    cpu = torch.device("cpu")
    backend = StepBackend(
        InProcess(Losing(forward, case.lost)),
        KVStore(case.sizes, private_zeros),
        TokenSampler(cpu),
        cpu,
    )
    tier = ContinuousTier(
        backend, case.shape, options, expected=lambda limit: limit * case.expected
    )
    return tier, tier.generate(requests)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=pytest.mark.soak) if family == "deepseek_v3" else family
        for family in FAMILIES
    ],
)
def test_tokens_equal_those_of_each_row_alone(family: str) -> None:
    assert len({tuple(answer) for answer in alone(family)}) == len(PROMPTS), "answers must differ"
    for case in CASES:
        _, done = run(TransformersForward(tiny(family)), case)
        answers = {one.index: list(one.token_ids) for one in done}
        assert [answers[n] for n in range(len(PROMPTS))] == alone(family), case.name


@pytest.mark.parametrize("family", OWN_FORWARD)
def test_the_packed_forward_answers_the_same(family: str) -> None:
    for case in CASES:
        forward = LlamaForward.of(tiny(family), packable=10**9)
        assert forward is not None
        _, done = run(forward, case)
        answers = {one.index: list(one.token_ids) for one in done}
        assert [answers[n] for n in range(len(PROMPTS))] == alone(family), case.name


def test_the_cases_have_the_named_properties() -> None:
    facts = {}
    for case in CASES:
        tier, done = run(TransformersForward(tiny("llama")), case)
        list(done)
        facts[case.name] = tier.facts()
    assert facts["one place, nothing shared"]["prefixes"] == 0
    assert facts["all places, a shared beginning"]["prefixes"] == 1
    assert facts["too few pages"]["preempted"]
    assert facts["memory runs out"]["out_of_memory"] == 2
    assert facts["memory runs out"]["max_rows"] == 2
