"""On a GPU the engine stays within its memory budget, and a row that does not fit fails alone."""

from collections.abc import Iterator

import pytest
import torch

from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.memory import free_memory
from batchgen.records import ResolvedDecoding
from tests.engines.torch.tiny_models import by_row, requests
from tests.gpu.gpu_models import PROMPTS, StaticEngine, engine_of, model_on, tokens_of

pytestmark = pytest.mark.gpu

MANY = [[3 + (n * 7 + k) % 90 for k in range(40 + n % 100)] for n in range(400)]
LONG = ResolvedDecoding(max_new_tokens=60)


@pytest.fixture
def little(gpu: torch.device) -> Iterator[torch.device]:
    """A GPU of which this process may use 1 GiB."""
    total = torch.cuda.get_device_properties(gpu).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2**30 / total), gpu)
    yield gpu
    torch.cuda.set_per_process_memory_fraction(1.0, gpu)


def test_the_plan_leaves_the_memory_that_the_job_does_not_give(gpu: torch.device) -> None:
    torch.cuda.reset_peak_memory_stats(gpu)
    free = free_memory(gpu)
    answers = engine_of(model_on("llama", torch.float32, gpu), memory_fraction=0.5)
    list(answers.generate(requests(MANY, LONG)))
    assert torch.cuda.max_memory_allocated(gpu) <= 0.55 * free
    answers.close()


@pytest.mark.parametrize("kind", ["continuous", "static"])
def test_all_rows_are_answered_after_memory_ran_out(little: torch.device, kind: str) -> None:
    """The budget is computed from the free memory of the whole GPU, of which this process gets a part only."""
    model = model_on("llama", torch.float32, little)
    # Pages are allocated when the engine is made; what remains for a step is filled up.
    answers = engine_of(
        model,
        TorchEngine if kind == "continuous" else StaticEngine,
        max_tokens=40_000,
        max_rows=512,
    )
    list(answers.generate(requests(PROMPTS, LONG)))
    block: list[torch.Tensor] = []
    try:
        while True:
            block.append(torch.empty(2**20, device=little))
    except torch.OutOfMemoryError:
        del block[-8:]
    found = by_row(answers.generate(requests(MANY[:64], LONG)))
    block.clear()
    assert len(found) == 64
    assert {one.failure.code for one in found.values() if one.failure} <= {"out_of_memory"}
    # The same rows are answered once there is memory again.
    assert len(tokens_of(answers.generate(requests(PROMPTS, LONG)))) == len(PROMPTS)
