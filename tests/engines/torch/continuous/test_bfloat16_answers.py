"""Models in bfloat16: answers that depend on the row only, and logits near those of float32 arithmetic on the same weights.

The processor of these tests has no products of bfloat16, whichever it is: attention is then computed in float32, and its
rounding hides in which pieces. Other processors declare what they keep when a model is loaded.
"""

import copy

import pytest
import torch

from batchgen.engines.torch.continuous.continuous_tier import BatchShape
from batchgen.engines.torch.continuous.forward import attention
from batchgen.engines.torch.continuous.forward.products import linear
from batchgen.engines.torch.continuous.forward.transformers_model import TransformersForward
from batchgen.engines.torch.continuous.kv_store import KVStoreSizes
from batchgen.engines.torch.continuous.workers import Forward
from batchgen.records import Completion, Continuation, Request, ResolvedDecoding
from tests.engines.torch.continuous.tiny_continuous_tier import (
    CAPACITIES,
    WIDE,
    Capacity,
    own_forward,
    slot_likelihoods,
    slots,
)
from tests.engines.torch.tiny_models import (
    by_row,
    engine,
    forced_table,
    prompts,
    requests,
    tiny_model,
)

HALF = torch.bfloat16
SYSTEM = prompts(7, seed=1)[6][:20]
MIXED = [SYSTEM + p if n % 2 else p for n, p in enumerate(prompts())]
DECODINGS = (
    ResolvedDecoding(max_new_tokens=9),
    ResolvedDecoding(max_new_tokens=7, temperature=0.9),
    ResolvedDecoding(max_new_tokens=8, temperature=1.2, top_p=0.9, repetition_penalty=1.4),
)


@pytest.fixture(autouse=True)
def _no_products_of_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (attention, linear):
        monkeypatch.setattr(module, "has_bfloat16_products", lambda: False)


def forward(family: str) -> Forward:
    model = tiny_model(family, HALF)
    return TransformersForward(model) if family == "gemma3_text" else own_forward(model)


def answers(
    to_run: Forward, submitted: list[Request], capacity: Capacity = WIDE
) -> dict[int, Completion]:
    return by_row(slots(to_run, capacity).generate(submitted))


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "gemma3_text"])
def test_a_row_gets_the_same_answer_in_any_batch(family: str) -> None:
    to_run, submitted = forward(family), requests(MIXED, *DECODINGS)
    alone = answers(to_run, submitted, CAPACITIES["one place"])
    assert len({tuple(one.token_ids) for one in alone.values()}) == len(submitted)
    for name, capacity in CAPACITIES.items():
        assert answers(to_run, submitted[::-1], capacity) == alone, name


def test_likelihoods_are_near_those_of_float32_arithmetic_on_the_same_weights() -> None:
    model = tiny_model("qwen3", HALF)
    exact = copy.deepcopy(model).float()
    submitted = [
        Continuation(n, context, ending)
        for n, (context, ending) in enumerate(
            (context, ending) for context in MIXED for ending in ([5], [9, 60, 61], [9, 60])
        )
    ]
    for name in ("one place", "all places, prompts in chunks", "too few pages"):
        tier = slot_likelihoods(own_forward(model), CAPACITIES[name])
        found = {one.index: one.logprobs for one in tier.likelihoods(submitted)}
        for one in submitted:
            table = forced_table(exact, one.context, one.token_ids)
            wanted = [float(row[token]) for row, token in zip(table, one.token_ids, strict=True)]
            assert found[one.index] == pytest.approx(wanted, abs=0.1 * float(table.std())), name


def test_the_engine_selects_continuous_batching_and_stores_half_the_bytes() -> None:
    facts = {}
    for dtype in (torch.float32, HALF):
        opened = engine(tiny_model("llama", dtype), max_rows=3)
        submitted = requests(MIXED, *DECODINGS)
        found = by_row(opened.generate(submitted))
        facts[dtype] = opened.facts()
        opened.close()
        if dtype == HALF:
            assert found == answers(forward("llama"), submitted)
    assert [facts[dtype]["tier"] for dtype in facts] == ["continuous, own forward"] * 2
    half, whole = (facts[dtype]["kv_bytes_per_token"] for dtype in (HALF, torch.float32))
    assert 2 * half == whole  # type: ignore[operator]


@pytest.mark.parametrize(
    "capacity",
    [
        Capacity(BatchShape(8, 64, cuts=512), KVStoreSizes(28, 2, 16), expected=lambda _limit: 0),
        Capacity(BatchShape(8, 64, cuts=512), KVStoreSizes(64, 4, 64), lost=(4, 7)),
        Capacity(BatchShape(1, 64, cuts=512), KVStoreSizes(64, 4, 0), lost=(4,)),
    ],
    ids=["too few pages", "memory runs out", "one row, which loses a step"],
)
def test_a_preempted_row_generates_its_answer_again(capacity: Capacity) -> None:
    to_run, submitted = forward("llama"), requests(MIXED, *DECODINGS[::-1])
    alone = slots(to_run, CAPACITIES["one place"])
    wanted = by_row(alone.generate(submitted))
    tier = slots(to_run, capacity)
    assert by_row(tier.generate(submitted)) == wanted
    assert tier.facts()["preempted"]
    decoded = [facts["tokens_decode"] for facts in (tier.facts(), alone.facts())]
    assert decoded[0] > decoded[1]  # type: ignore[operator]
