"""While rows are computed, each tier counts them and their new tokens."""

from collections.abc import Callable
from typing import Literal

import pytest

from batchgen.engines.torch.batched_tier import BatchedTier
from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.generate.beam_search import BeamRunner
from batchgen.engines.torch.generate.generate_runner import GenerateRunner
from batchgen.engines.torch.static.static_runner import StaticRunner
from batchgen.engines.torch.tier import BatchRunner
from batchgen.job.spec import Batching
from batchgen.planning.batches import BatchLimits
from batchgen.records import InFlight, ResolvedDecoding
from tests.engines.torch.tiny_models import (
    CPU,
    loaded,
    options,
    prompts,
    requests,
    spell,
    tiny_model,
)

Kind = Literal["continuous", "static", "generate", "beam"]


def tier(kind: Kind, should_stop: Callable[[], bool]) -> TorchEngine | BatchedTier:
    model = loaded(tiny_model("llama"))
    if kind == "continuous":
        return TorchEngine(model, batching=Batching(), decode=spell, should_stop=should_stop)
    shared = options(should_stop)
    runner: BatchRunner = StaticRunner(model, shared)
    if kind == "generate":
        runner = GenerateRunner(model, shared, "padded")
    if kind == "beam":
        runner = BeamRunner(model, shared)
    return BatchedTier(runner, BatchLimits(4, 10_000, "none"), CPU, shared)


@pytest.mark.parametrize("kind", ["continuous", "static", "generate", "beam"])
def test_rows_in_flight_and_their_tokens_are_counted(kind: Kind) -> None:
    seen: list[InFlight] = []

    def look() -> bool:
        seen.append(tested.in_flight())
        return False

    tested = tier(kind, look)
    decoding = ResolvedDecoding(
        max_new_tokens=6, min_new_tokens=6, num_beams=2 if kind == "beam" else 1
    )
    answers = list(tested.generate(requests(prompts(4), decoding)))
    assert [len(answer.token_ids) for answer in answers] == [6] * 4
    assert max(one.rows for one in seen) == 4
    tokens = [one.new_tokens for one in seen]
    assert any(tokens)
    assert all(count <= 4 * 6 for count in tokens)
    assert kind == "beam" or {4, 8, 12, 16, 20} <= set(tokens)
    assert tested.in_flight() == InFlight()
