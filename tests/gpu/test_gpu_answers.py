"""On a GPU every tier gives the answers and likelihoods of `generate`, in every dtype."""

import warnings
from typing import Any

import pytest
import torch

from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.select.parity_probe import logit_tolerance
from batchgen.records import Continuation, ResolvedDecoding
from tests.engines.torch.tiny_models import FAMILIES, forced_table, requests, tiny_model
from tests.gpu.gpu_models import (
    GREEDY,
    PROMPTS,
    StaticEngine,
    engine_of,
    generated_alone,
    loaded_on,
    model_on,
    tokens_of,
)

pytestmark = pytest.mark.gpu

HALVES = (torch.bfloat16, torch.float16)
OWN_FORWARD = ("llama", "mistral", "qwen3")
CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", [TorchEngine, StaticEngine])
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_generate_on_each_row_alone(
    device: torch.device, family: str, kind: type[TorchEngine]
) -> None:
    model = model_on(family, torch.float32, device)
    answers = engine_of(model, kind, max_rows=4)
    found = tokens_of(answers.generate(requests(PROMPTS, GREEDY)))
    assert found == generated_alone(model)
    facts = answers.facts()
    if family in OWN_FORWARD and kind is TorchEngine:
        assert facts["tier"] == "continuous, own forward", facts["tier_reason"]
    assert set(dict(facts["kernels"]).values()) <= {"torch"}  # type: ignore[call-overload]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", OWN_FORWARD)
def test_the_own_forward_runs_in_16_bits(
    device: torch.device, family: str, dtype: torch.dtype
) -> None:
    """Log-probabilities are as close to those of float32 as `generate` in the same dtype may be."""
    model = model_on(family, dtype, device)
    answers = engine_of(model)
    assert answers.facts()["tier"] == "continuous, own forward", answers.facts()["tier_reason"]
    given = [4, 5, 6]
    found = answers.likelihoods(Continuation(n, p, given) for n, p in enumerate(PROMPTS))
    logprobs = {one.index: one.logprobs for one in found}
    wide: Any = loaded_on(model_on(family, dtype, CPU).model, CPU).model
    wide.double()
    for row, prompt in enumerate(PROMPTS):
        table = forced_table(wide, prompt, given)
        expected = [float(line[token]) for line, token in zip(table, given, strict=True)]
        # The tolerance is in units of the spread of the logits.
        assert logprobs[row] == pytest.approx(
            expected, abs=2 * logit_tolerance(model) * float(table.std())
        )


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "mamba"])
def test_likelihoods_are_those_of_a_forward_in_float64(device: torch.device, family: str) -> None:
    model: Any = tiny_model(family, torch.float32)
    answers = engine_of(loaded_on(model, device))
    texts = [[4], [4, 5, 6], [7, 8]]
    continuations = [
        Continuation(n * len(texts) + k, prompt, text)
        for n, prompt in enumerate(PROMPTS)
        for k, text in enumerate(texts)
    ]
    found = {one.index: one.logprobs for one in answers.likelihoods(continuations)}
    model.double()
    for one in continuations:
        table = forced_table(model, one.context, one.token_ids)
        expected = [float(line[token]) for line, token in zip(table, one.token_ids, strict=True)]
        assert found[one.index] == pytest.approx(expected, abs=1e-3)


def test_a_row_gets_the_same_sample_on_the_cpu(device: torch.device) -> None:
    decodings = (
        ResolvedDecoding(max_new_tokens=6, temperature=1.0, top_k=5, top_p=0.9),
        ResolvedDecoding(max_new_tokens=6, temperature=1.3, min_p=0.02),
        ResolvedDecoding(max_new_tokens=6, repetition_penalty=1.3, no_repeat_ngram_size=2),
    )
    found, expected = (
        tokens_of(
            engine_of(model_on("llama", torch.float64, place)).generate(
                requests(PROMPTS, *decodings)
            )
        )
        for place in (device, CPU)
    )
    assert found == expected


def test_the_host_waits_once_for_each_step(gpu: torch.device) -> None:
    """As CUDA counts it; the shadow device counts the same in the plain tests."""
    answers = engine_of(model_on("llama", torch.float32, gpu))
    list(answers.generate(requests(PROMPTS, GREEDY)))
    before = _steps(answers)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            list(answers.generate(requests(PROMPTS, GREEDY)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    synchronizing = [one for one in waits if "synchroniz" in str(one.message)]
    assert len(synchronizing) <= _steps(answers) - before, [str(one.filename) for one in waits]


def _steps(answers: TorchEngine) -> int:
    facts = answers.facts()
    return sum(int(str(facts[f"steps_{kind}"])) for kind in ("prefill", "decode"))
