"""Batch invariance in bfloat16 where the processor multiplies it; `test_bfloat16_answers.py` has the other processors."""

from dataclasses import replace

import pytest
import torch

from batchgen.engines.torch.continuous.forward.llama import LlamaForward
from batchgen.engines.torch.continuous.forward.processor import has_bfloat16_products
from batchgen.engines.torch.continuous.kv_store import KVStoreSizes
from batchgen.engines.torch.select.row_count_probe import probe_row_counts
from batchgen.records import ResolvedDecoding
from tests.engines.torch.continuous.tiny_continuous_tier import CAPACITIES, own_forward, slots
from tests.engines.torch.tiny_models import by_row, prompts, requests, tiny_model

DECODINGS = (
    ResolvedDecoding(max_new_tokens=9),
    ResolvedDecoding(max_new_tokens=7, temperature=0.9),
)


@pytest.mark.skipif(not has_bfloat16_products(), reason="the processor does not multiply bfloat16")
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_row_gets_the_same_answer_in_any_batch(family: str) -> None:
    to_run = own_forward(tiny_model(family, torch.bfloat16))
    assert isinstance(to_run, LlamaForward)
    if counts := probe_row_counts(to_run.products()):
        to_run.use_row_counts(counts)
    system = prompts(7, seed=1)[6][:20]
    submitted = requests([system + p if n % 2 else p for n, p in enumerate(prompts())], *DECODINGS)
    alone = by_row(slots(to_run, CAPACITIES["one place"]).generate(submitted))
    assert len({tuple(one.token_ids) for one in alone.values()}) > len(submitted) // 2
    capacities = {
        **CAPACITIES,
        # The kernels need pages of four tokens; torch rounds parts of attention to bfloat16 before they are merged.
        "too few pages": replace(CAPACITIES["too few pages"], sizes=KVStoreSizes(14, 4, 16)),
    }
    for name, capacity in capacities.items():
        tier = slots(to_run, capacity)
        assert by_row(tier.generate(submitted[::-1])) == alone, name
        assert name != "too few pages" or tier.facts()["preempted"]
