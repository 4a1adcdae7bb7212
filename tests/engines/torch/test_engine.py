"""The engine: requests go to the tier that can answer them, within limits that fit."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from batchgen.engines.torch.engine import TorchEngine, open_torch_engine
from batchgen.engines.torch.estimate import estimate_torch_engine
from batchgen.errors import ModelError, ResourceError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.records import Request, ResolvedDecoding
from tests.engines.torch.tiny_models import (
    alone,
    by_row,
    engine,
    loaded,
    prompts,
    requests,
    spell,
    tiny_model,
)


def test_each_request_goes_to_the_tier_that_can_answer_it() -> None:
    model = tiny_model("llama")
    answers = engine(model, max_rows=4)
    submitted = requests(
        prompts(4),
        ResolvedDecoding(max_new_tokens=6),
        ResolvedDecoding(max_new_tokens=6, num_beams=3),
        ResolvedDecoding(
            max_new_tokens=6, generation_kwargs=(("suppress_tokens", list(range(3, 40))),)
        ),
    )
    found = by_row(answers.generate(submitted))
    expected: list[dict[str, Any]] = [
        {},
        {"num_beams": 3},
        {"suppress_tokens": list(range(3, 40))},
        {},
    ]
    for request, config in zip(submitted, expected, strict=True):
        assert [list(found[request.index].token_ids)] == alone(
            model, request.token_ids, max_new_tokens=6, **config
        )
    facts = answers.facts()
    assert facts["tier"] == "continuous"
    assert facts["steps_decode"] == 10
    json.dumps(facts)


def test_rows_with_another_rotary_embedding_do_not_affect_others() -> None:
    model = tiny_model("phi3")
    answers = engine(model, max_rows=6)
    submitted = requests([*prompts(), prompts(1)[0][::-1], [7, 8, 9]])
    found = by_row(answers.generate(submitted))
    for request in submitted:
        assert [list(found[request.index].token_ids)] == alone(model, request.token_ids)
    assert answers.facts()["steps_prefill"]
    assert answers.facts()["generate_fallbacks"]


def test_tokens_outside_the_vocabulary_are_an_error() -> None:
    with pytest.raises(ModelError, match=r"token 97 in the prompt.*tokenizer and model"):
        list(engine(tiny_model("llama")).generate(requests([[5, 97]])))


def test_requests_are_read_in_parts() -> None:
    pulled: list[int] = []

    def stream() -> Iterator[Request]:
        for request in requests(prompts(5), ResolvedDecoding(max_new_tokens=2)):
            pulled.append(request.index)
            yield request

    running = engine(tiny_model("llama"), max_rows=2, part_rows=2).generate(stream())
    next(running)
    assert pulled == [0, 1]


def test_limits_come_from_the_job_or_from_free_memory(tmp_path: Path) -> None:
    tiny_model("llama", torch.float32).save_pretrained(tmp_path)
    spec = ModelSpec(path="model")
    submitted = estimate_torch_engine(tmp_path, spec, batching=Batching(max_rows=3, max_tokens=99))
    assert (submitted.limits.rows, submitted.limits.tokens) == (3, 99)
    free = estimate_torch_engine(tmp_path, spec, batching=Batching())
    assert free.limits.rows == 64
    assert 64 * 256 < free.limits.tokens <= free.free_bytes // free.kv_bytes_per_token
    opened = open_torch_engine(
        tmp_path, spec, batching=Batching(), decode=spell, should_stop=lambda: False
    )
    facts = opened.facts()
    assert facts["kv_bytes_per_token"] == free.kv_bytes_per_token
    assert free.kv_cache is not None
    planned = (free.kv_cache.rows, free.workers.count, free.workers.reason)
    assert (facts["max_rows"], facts["workers"], facts["workers_reason"]) == planned
    # Approximate: other processes change the free memory between the two measurements.
    assert facts["max_tokens"] == pytest.approx(free.row_tokens, rel=0.1)
    assert facts["max_prefix_tokens"] == pytest.approx(free.kv_cache.arena, rel=0.1)
    opened.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_facts_name_the_kernels_in_use(dtype: torch.dtype) -> None:
    numba = find_spec("numba") is not None and dtype == torch.float32
    opened = engine(tiny_model("llama", dtype))
    used = "numba" if numba else "torch"
    assert opened.facts()["kernels"] == {"attention": used, "norm": used}
    opened.close()


def test_too_little_memory_is_an_error_before_the_run() -> None:
    with pytest.raises(ResourceError, match="not enough memory on cpu"):
        TorchEngine(
            loaded(tiny_model("llama")),
            batching=Batching(),
            decode=spell,
            should_stop=lambda: False,
            free=lambda _device: 10_000,
        )
