"""The engine: requests go to the tier that can answer them, within limits that fit."""

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from batchgen.engines.torch.engine import TorchEngine, open_torch_engine
from batchgen.engines.torch.estimate import estimate_torch_engine
from batchgen.errors import ResourceError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.records import Continuation, Request, ResolvedDecoding
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


class Behind:
    """Writes the prompt before the answer, so that a text shows behind which tokens it was decoded."""

    special_tokens: Mapping[int, str] = MappingProxyType({})

    def __call__(
        self, token_ids: Sequence[int], prompt: Sequence[int] = (), *, special: bool = False
    ) -> str:
        del special
        return f"{spell(prompt)}|{spell(token_ids)}"

    def decode_complete(self, token_ids: Sequence[int], prompt: Sequence[int] = ()) -> str:
        return self(token_ids, prompt)

    def tokenizer_json(self) -> None:
        return None


class StaticOnly(TorchEngine):
    """Without the continuous tier."""

    fastest_tier = "static"


@pytest.mark.parametrize(
    ("family", "kind", "beams"),
    [("llama", TorchEngine, 1), ("llama", StaticOnly, 1), ("llama", TorchEngine, 2), ("bloom", StaticOnly, 1), ("t5", TorchEngine, 1), ("t5", TorchEngine, 2)],
)  # fmt: skip
def test_every_tier_decodes_an_answer_behind_its_prompt(
    family: str, kind: type[TorchEngine], beams: int
) -> None:
    model = loaded(tiny_model(family))
    answers = kind(model, batching=Batching(), decode=Behind(), should_stop=lambda: False)
    decoding = ResolvedDecoding(max_new_tokens=4, num_beams=beams, stop_strings=("stop",))
    submitted = requests(prompts(3), decoding)
    found = by_row(answers.generate(submitted))
    for request in submitted:
        done = found[request.index]
        before = model.before_answer(request.token_ids)
        assert done.text == f"{spell(before)}|{spell(done.token_ids)}"


def test_a_stop_string_within_the_minimum_does_not_count() -> None:
    answers = engine(tiny_model("llama"))
    decoding = ResolvedDecoding(max_new_tokens=9)
    (free,) = answers.generate(requests(prompts(1), decoding))
    first = free.text[0]
    stopping = replace(decoding, stop_strings=(first,))
    (stopped,) = answers.generate(requests(prompts(1), stopping))
    assert (stopped.finish_reason, stopped.text) == ("stop_string", "")
    (kept,) = answers.generate(requests(prompts(1), replace(stopping, min_new_tokens=6)))
    assert len(kept.token_ids) > 5
    assert kept.text[:6] == free.text[:6]


def test_rows_with_another_rotary_embedding_do_not_affect_others() -> None:
    model = tiny_model("phi3")
    answers = engine(model, max_rows=6)
    submitted = requests([*prompts(), prompts(1)[0][::-1], [7, 8, 9]])
    found = by_row(answers.generate(submitted))
    for request in submitted:
        assert [list(found[request.index].token_ids)] == alone(model, request.token_ids)
    assert answers.facts()["steps_prefill"]
    assert answers.facts()["generate_fallbacks"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_with_a_token_outside_the_vocabulary_fails_alone(place: int) -> None:
    model = tiny_model("llama")
    rows = prompts(2)
    rows.insert(place, [5, 97])
    found = by_row(engine(model).generate(requests(rows, ResolvedDecoding(max_new_tokens=3))))
    failure = found.pop(place).failure
    assert failure is not None
    assert (failure.code, "token 97" in failure.message) == ("unknown_token", True)
    assert [list(found[n].token_ids) for n in found] == [
        alone(model, rows[n], max_new_tokens=3)[0] for n in found
    ]
    likelihoods = {
        one.index: one.failure.code if one.failure else len(one.logprobs)
        for one in engine(model).likelihoods(
            Continuation(n, row, [3]) for n, row in enumerate(rows)
        )
    }
    assert likelihoods == {n: "unknown_token" if n == place else 1 for n in range(3)}


def test_only_rows_with_a_token_outside_the_vocabulary() -> None:
    opened = engine(tiny_model("llama"))
    (failed,) = opened.generate(requests([[97]]))
    assert failed.finish_reason == "error"
    (failed_likelihood,) = opened.likelihoods([Continuation(4, [5], [200])])
    assert failed_likelihood.failure is not None


def test_an_end_token_outside_the_vocabulary_is_never_generated() -> None:
    decoding = ResolvedDecoding(
        max_new_tokens=4, min_new_tokens=2, end_token_ids=frozenset({400}), repetition_penalty=1.1
    )
    (done,) = engine(tiny_model("llama")).generate(requests(prompts(1), decoding))
    assert (done.finish_reason, len(done.token_ids)) == ("length", 4)


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
    kernels: Any = opened.facts()["kernels"]
    assert (kernels["attention"], kernels["norm"]) == (used, used)
    opened.close()


def test_a_closed_engine_has_unmapped_its_keys_and_values() -> None:
    def mapped() -> int:
        """Virtual memory of this process, in pages."""
        return int(Path("/proc/self/statm").read_text().split()[0])

    model = tiny_model("llama")
    before = mapped()
    gc.disable()
    try:
        opened = engine(model)
        used = mapped() - before
        opened.close()
        assert mapped() - before < used / 2
    finally:
        gc.enable()


def test_too_little_memory_is_an_error_before_the_run() -> None:
    with pytest.raises(ResourceError, match="not enough memory on cpu"):
        TorchEngine(
            loaded(tiny_model("llama")),
            batching=Batching(),
            decode=spell,
            should_stop=lambda: False,
            free=lambda _device: 10_000,
        )
