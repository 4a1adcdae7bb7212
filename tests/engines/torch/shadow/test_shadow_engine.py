"""The engine on another device than the CPU: the same answers, no operation of a CPU, one wait for each decode step."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from batchgen.decoding.upload import upload
from batchgen.engines.torch.batched_tier import BatchedTier
from batchgen.engines.torch.continuous.continuous_tier import (
    BatchShape,
    ContinuousTier,
    StepBackend,
)
from batchgen.engines.torch.continuous.forward.llama import LlamaForward
from batchgen.engines.torch.continuous.forward.transformers_model import TransformersForward
from batchgen.engines.torch.continuous.kv_store import KVStore, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.token_picker import TokenSampler
from batchgen.engines.torch.continuous.workers import Forward, InProcess
from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.generate.beam_search import BeamRunner
from batchgen.engines.torch.generate.generate_runner import GenerateRunner
from batchgen.engines.torch.likelihoods.by_forward import ForwardLikelihoods
from batchgen.engines.torch.likelihoods.by_steps import StepLikelihoods
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.static.static_runner import StaticRunner
from batchgen.engines.torch.structured.row_masks import apply_masks
from batchgen.engines.torch.tier import Likelihoods, Tier
from batchgen.job.spec import Batching
from batchgen.planning.batches import BatchLimits
from batchgen.records import Completion, Continuation, Request, ResolvedDecoding
from tests.engines.torch.shadow.shadow_device import CUDA, Shadow
from tests.engines.torch.tiny_models import (
    alone,
    by_row,
    loaded,
    options,
    prompts,
    requests,
    spell,
    tiny_model,
)

HALVES = (torch.bfloat16, torch.float16)
PREFIX = [9, 8, 7, 6, 5, 4, 3, 9, 8, 7, 6, 5, 4, 3, 9, 8]
PROMPTS = [*prompts(3), [*PREFIX, 11, 12], [*PREFIX, 13]]
GREEDY = ResolvedDecoding(max_new_tokens=4)
MIXED = (
    ResolvedDecoding(max_new_tokens=4, temperature=1.5, logprobs=True),
    ResolvedDecoding(
        max_new_tokens=4,
        repetition_penalty=1.3,
        no_repeat_ngram_size=2,
        min_new_tokens=3,
        end_token_ids=frozenset({5}),
    ),
    ResolvedDecoding(max_new_tokens=4, temperature=1.0, top_k=5, top_p=0.9),
    GREEDY,
    ResolvedDecoding(max_new_tokens=4, temperature=1.0, min_p=0.01),
)
BEAM = ResolvedDecoding(max_new_tokens=4, num_beams=2, no_repeat_ngram_size=2)


def moved(model: PreTrainedModel, device: torch.device) -> LoadedModel:
    given, there = loaded(model), model
    if device != given.device:
        untyped: Any = deepcopy(model)
        there = untyped.to(device)
    return LoadedModel(
        there,
        device,
        model.dtype,
        given.encoder_decoder,
        given.vocab_size,
        given.rope_switch,
    )


def own(model: LoadedModel) -> Forward:
    forward = LlamaForward.of(model.model, packable=0)
    assert forward is not None
    return forward


def of_transformers(model: LoadedModel) -> Forward:
    return TransformersForward(model.model)


def backend(forward: Forward, device: torch.device) -> tuple[StepBackend, BatchShape]:
    """Pages of 4 tokens and prompts in chunks, so that pages, chunks and prefixes are all read."""
    store = KVStore(KVStoreSizes(pages=96, page_size=4, arena=64), private_zeros)
    return (
        StepBackend(InProcess(forward), store, TokenSampler(device), device),
        BatchShape(rows=8, step_tokens=24),
    )


def continuous(make: Callable[[LoadedModel], Forward]) -> Callable[[LoadedModel], Tier]:
    def tier(model: LoadedModel) -> Tier:
        parts, shape = backend(make(model), model.device)
        return ContinuousTier(parts, shape, options())

    return tier


def batched(make: Callable[[LoadedModel], Any]) -> Callable[[LoadedModel], Tier]:
    def tier(model: LoadedModel) -> Tier:
        limits = BatchLimits(8, 10_000, "none")
        return BatchedTier(make(model), limits, model.device, options())

    return tier


STATIC = batched(lambda model: StaticRunner(model, options(), forward_cost=8))
GENERATE = batched(lambda model: GenerateRunner(model, options(), "padded"))
BEAMS = batched(lambda model: BeamRunner(model, options()))
TIERS: dict[str, tuple[str, Callable[[LoadedModel], Tier]]] = {
    "own forward, llama": ("llama", continuous(own)),
    "own forward, norms of heads": ("qwen3", continuous(own)),
    "own forward, sliding window": ("mistral", continuous(own)),
    "transformers, sliding window and scale": ("gemma3_text", continuous(of_transformers)),
    "transformers, learned positions": ("gpt2", continuous(of_transformers)),
    "static": ("llama", STATIC),
    "static, sliding window": ("gemma3_text", STATIC),
    "static, recurrent": ("mamba", STATIC),
    "generate": ("llama", GENERATE),
    "generate, encoder and decoder": ("t5", GENERATE),
    "beams": ("llama", BEAMS),
}


def tokens(answers: Iterable[Completion]) -> list[list[int]]:
    found = by_row(answers)
    failures = {n: one.failure for n, one in found.items() if one.failure}
    assert failures == {}
    return [list(found[n].token_ids) for n in sorted(found)]


def asked(*decodings: ResolvedDecoding) -> list[Request]:
    return requests(PROMPTS, *decodings)


@pytest.mark.parametrize("name", TIERS)
def test_a_tier_gives_the_answers_of_the_cpu(name: str) -> None:
    family, tier = TIERS[name]
    decodings = (BEAM,) if name == "beams" else MIXED
    model = tiny_model(family)
    expected = tokens(tier(loaded(model)).generate(asked(*decodings)))
    with Shadow():
        assert tokens(tier(moved(model, CUDA)).generate(asked(*decodings))) == expected
    if GREEDY in decodings:
        at = decodings.index(GREEDY)
        assert expected[at] == alone(model, PROMPTS[at], max_new_tokens=4)[0]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral"])
def test_16_bits_are_as_close_to_float32_as_its_weights(family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family, torch.float32)
    texts = [Continuation(n, p, [3, 4, 5]) for n, p in enumerate(PROMPTS)]

    def logprobs(given: PreTrainedModel, device: torch.device) -> torch.Tensor:
        parts, shape = backend(own(moved(given, device)), device)
        found = StepLikelihoods(parts, shape, lambda: False).likelihoods(texts)
        return torch.tensor([one.logprobs for one in sorted(found, key=lambda one: one.index)])

    narrow: Any = deepcopy(model)
    narrow.to(dtype)
    # float64 has no kernel, which would have to be compiled here.
    reference = logprobs(deepcopy(narrow).double(), torch.device("cpu"))
    with Shadow():
        found = logprobs(narrow, CUDA)
    assert (found - reference).abs().max() < (0.5 if dtype == torch.bfloat16 else 0.06)


@pytest.mark.parametrize("way", ["steps", "forward"])
def test_likelihoods_are_those_of_the_cpu(way: str) -> None:
    model = tiny_model("llama")
    texts = [
        Continuation(3 * n + k, p, [3 + k, 4, 5][: k + 1])
        for n, p in enumerate(PROMPTS)
        for k in range(3)
    ]

    def make(given: LoadedModel) -> Likelihoods:
        if way == "forward":
            return ForwardLikelihoods(given, lambda: False, window=64)
        parts, shape = backend(own(given), given.device)
        return StepLikelihoods(parts, shape, lambda: False)

    def found(given: LoadedModel) -> list[float]:
        every = sorted(make(given).likelihoods(texts), key=lambda one: one.index)
        return [value for one in every for value in one.logprobs]

    expected = found(loaded(model))
    with Shadow():
        assert found(moved(model, CUDA)) == pytest.approx(expected, abs=1e-9)


def test_masks_of_grammars_are_those_of_the_cpu_without_waiting() -> None:
    scores = torch.randn(3, 70, generator=torch.Generator().manual_seed(0))
    words = np.random.default_rng(0).integers(-(2**31), 2**31, (2, 3)).astype(np.int32)
    expected = apply_masks(scores, [0, 2], words)
    assert (expected == -torch.inf).any()
    with Shadow() as shadow:
        there = upload(scores, CUDA)
        found = apply_masks(there, [0, 2], words)
        assert shadow.waits.total == 0, shadow.waits.counts
        assert torch.equal(found.cpu(), expected)


STEPS: dict[str, tuple[str, Callable[[LoadedModel], Tier], tuple[ResolvedDecoding, ...]]] = {
    "own forward": ("llama", continuous(own), (GREEDY,)),
    "own forward with logprobs": ("llama", continuous(own), (replace(GREEDY, logprobs=True),)),
    "own forward, everything": (
        "llama",
        continuous(own),
        (*MIXED, replace(MIXED[0], top_logprobs=3)),
    ),
    "transformers": ("gemma3_text", continuous(of_transformers), (GREEDY,)),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_host_waits_once_for_each_step(name: str) -> None:
    """For the tokens of a step, since the next step depends on them."""
    family, tier, decodings = STEPS[name]
    model = tiny_model(family, torch.float32)
    with Shadow() as shadow:
        running = tier(moved(model, CUDA))
        with shadow.counting():
            list(running.generate(asked(*decodings)))
        facts = running.facts()
    steps = sum(int(str(facts[f"steps_{kind}"])) for kind in ("prefill", "decode"))
    assert steps > 4
    assert shadow.waits.total <= steps, shadow.waits.counts


@pytest.mark.soak
@pytest.mark.parametrize(
    ("family", "tier"),
    [
        ("llama", "continuous, own forward"),
        ("gemma3_text", "continuous"),
        ("mamba", "static"),
        ("t5", "generate, padded"),
    ],
)
def test_the_engine_selects_the_tier_as_on_a_cpu(family: str, tier: str) -> None:
    model = tiny_model(family, torch.float32)
    with Shadow():
        answers = TorchEngine(
            moved(model, CUDA), batching=Batching(), decode=spell, should_stop=lambda: False
        )
        found = tokens(answers.generate(asked(GREEDY)))
        facts = answers.facts()
        answers.close()
    assert found == [alone(model, p, max_new_tokens=4)[0] for p in PROMPTS]
    assert (facts["tier"], facts["device"]) == (tier, "cuda:0")
