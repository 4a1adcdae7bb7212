"""The estimate of `plan` equals what `run` uses: tier, packed copy of the weights, workers."""

import time
from pathlib import Path

import pytest
import torch

from batchgen.engines.torch.continuous.forward.products.linear import packing_works
from batchgen.engines.torch.engine import open_torch_engine
from batchgen.engines.torch.estimate import TorchEstimate, estimate_torch_engine
from batchgen.engines.torch.memory import weight_bytes
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.batches import BatchLimits
from batchgen.planning.kv_cache_plan import KvCachePlan, Workers
from tests.engines.torch.tiny_models import spell, tiny_model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "dtype", "tier", "packs", "kv_cache"),
    [
        ("llama", torch.float32, "continuous, own forward", True, True),
        ("gpt2", torch.float32, "continuous", False, True),
        ("lfm2", torch.float32, "static", False, False),
        ("t5", torch.float32, "generate, padded", False, False),
    ],
)
def test_the_tier_is_known_after_the_first_load(
    family: str,
    dtype: torch.dtype,
    tier: str,
    packs: bool,
    kv_cache: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))
    model = tiny_model(family, dtype)
    model.save_pretrained(tmp_path / "model")
    time.sleep(2.1)  # younger files are not trusted
    spec = ModelSpec(path="model")
    before = estimate_torch_engine(tmp_path / "model", spec, batching=Batching())
    assert before.tier is None
    # Before the first load, the plan assumes the likely tier.
    assert (before.kv_cache is None) == (family == "t5")
    engine = open_torch_engine(
        tmp_path / "model", spec, batching=Batching(), decode=spell, should_stop=lambda: False
    )
    facts = engine.facts()
    engine.close()
    after = estimate_torch_engine(tmp_path / "model", spec, batching=Batching())
    assert after.tier == facts["tier"] == tier
    assert after.fallback == facts["tier_fallback"]
    assert after.fallback.startswith("not continuous: ") == (not kv_cache)
    assert after.variant == ""
    assert (after.kv_cache is not None) == kv_cache
    assert after.packed_bytes == (weight_bytes(model) if packs and packing_works() else 0)
    assert (after.workers.count, after.workers.reason) == (
        facts["workers"],
        facts["workers_reason"],
    )


@pytest.mark.parametrize(
    ("kv_cache", "lines", "held"),
    [
        (
            KvCachePlan(rows=64, step_tokens=1024, pages=1_000, page_size=4, arena=500),
            [
                "none: rows enter and leave at every step, up to 64 at a time (from batching.max_rows)",
                "room for 4,000 tokens (from batching.max_tokens) and 500 of shared prefixes",
            ],
            4_500,
        ),
        (None, [], 900),
    ],
)
def test_a_plan_prints_the_estimate(
    kv_cache: KvCachePlan | None, lines: list[str], held: int
) -> None:
    limits, workers = BatchLimits(8, 1_000, "length"), Workers(1, "asked for")
    found = TorchEstimate(
        "cpu", limits, workers, "float32", 500, 10, 9_999, packed_bytes=70, kv_cache=kv_cache
    )
    assert found.batch_lines("from {}".format) == lines
    assert found.model_facts("from {}".format) == [
        "float32 (from model.dtype)",
        "cpu (from model.device)",
        "tier decided at first load",
    ]
    memory = found.memory(batch_tokens=900, job_tokens=10_000)
    parts = ("embedding", 500), ("packed weights", 70), ("KV cache at most", 10 * held)
    assert memory.parts == parts
    assert (memory.bytes_per_token, memory.free_bytes) == (10, 9_999)
    short = found.memory(batch_tokens=900, job_tokens=20)
    assert short.parts[-1][1] == (200 if kv_cache else 9_000)
