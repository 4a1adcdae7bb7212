"""What `plan` says beforehand is what `run` takes: tier, packed copy of the weights, workers."""

import time
from pathlib import Path

import pytest
import torch

from batchgen.engines.torch.continuous.forward.linear import packing_works
from batchgen.engines.torch.engine import open_torch_engine
from batchgen.engines.torch.estimate import estimate_torch_engine
from batchgen.engines.torch.memory import weight_bytes
from batchgen.job.spec import Batching, ModelSpec
from tests.engines.torch.tiny_models import spell, tiny_model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "dtype", "tier", "packs", "slots"),
    [
        ("llama", torch.float32, "slots, own forward", True, True),
        ("gpt2", torch.float32, "slots", False, True),
        ("lfm2", torch.float32, "cohort", False, False),
        ("t5", torch.float32, "generate, padded", False, False),
    ],
)
def test_the_tier_is_known_after_the_first_load(
    family: str,
    dtype: torch.dtype,
    tier: str,
    packs: bool,
    slots: bool,
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
    # Before the first load, room is planned for what is likely.
    assert (before.slots is None) == (family == "t5")
    engine = open_torch_engine(
        tmp_path / "model", spec, batching=Batching(), decode=spell, should_stop=lambda: False
    )
    facts = engine.facts()
    engine.close()
    after = estimate_torch_engine(tmp_path / "model", spec, batching=Batching())
    assert after.tier == facts["tier"] == tier
    assert (after.slots is not None) == slots
    assert after.packed_bytes == (weight_bytes(model) if packs and packing_works() else 0)
    assert (after.workers.count, after.workers.reason) == (
        facts["workers"],
        facts["workers_reason"],
    )
