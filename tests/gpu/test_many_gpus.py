"""Several GPUs give the answers of one, each with a part of the rows."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.job.spec import Batching, ModelSpec
from batchgen.records import Continuation, ResolvedDecoding
from tests.engines.torch.tiny_models import prompts, requests, spell, tiny_model
from tests.gpu.gpu_models import tokens_of

pytestmark = pytest.mark.gpu

ROWS = [ids for seed in range(24) for ids in prompts(8, seed)]


def unending() -> bool:
    return False


def opened(folder: Path, device: str) -> Engine:
    return open_engine(
        ModelSpec(path="model", device=device),
        folder=folder,
        batching=Batching(part_rows=8),
        workers="auto",
        decode=spell,
        should_stop=unending,
    )


def test_all_gpus_answer_as_one(gpu: torch.device, tmp_path: Path) -> None:
    count = torch.cuda.device_count()
    if count < 2:
        pytest.skip(f"needs two GPUs, found {count}")
    tiny_model("llama", torch.float32).save_pretrained(tmp_path / "model")
    decodings = (
        ResolvedDecoding(max_new_tokens=9),
        ResolvedDecoding(max_new_tokens=9, temperature=1.0),
    )
    submitted = requests(ROWS, *decodings)
    texts = [Continuation(n, ids, [4, 5]) for n, ids in enumerate(ROWS)]
    results: list[tuple[list[list[int]], list[tuple[float, ...]]]] = []
    facts: Any = {}
    for device in (str(gpu), "cuda"):
        with closing(opened(tmp_path / "model", device)) as engine:
            found = tokens_of(engine.generate(submitted))
            likely = sorted(engine.likelihoods(texts), key=lambda one: one.index)
            results.append((found, [tuple(one.logprobs) for one in likely]))
            facts = engine.facts()
    assert facts["workers"] == count
    assert all(each["useful_tokens"] > 0 for each in facts["each"])
    assert results[0][0] == results[1][0]
    for one, other in zip(results[0][1], results[1][1], strict=True):
        assert one == pytest.approx(other, abs=1e-4)
