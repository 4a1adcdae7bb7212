"""Two replicas of a model on simulated GPUs: the answers and likelihoods of one engine."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.engines.replicas.replicated_engine import open_replicas
from batchgen.engines.torch.capacity import step_workers, usable_gpus
from batchgen.engines.torch.estimate import estimate_torch_engine
from batchgen.errors import ModelError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.kv_cache_plan import Workers
from batchgen.records import Continuation, Request, ResolvedDecoding
from tests.engines.torch.tiny_models import CPU, by_row, prompts, requests, spell, tiny_model

SPEC = ModelSpec(path="model")
TWO = Workers(2, "for a test", ("cpu", "cpu"))
DECODINGS = (
    ResolvedDecoding(max_new_tokens=9, logprobs=True),
    ResolvedDecoding(max_new_tokens=12, temperature=1.1, top_p=0.9),
    ResolvedDecoding(max_new_tokens=7, temperature=0.7, repetition_penalty=1.3),
    ResolvedDecoding(max_new_tokens=5, num_beams=2),
)


def unending() -> bool:
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("replicated") / "model"
    tiny_model("llama", torch.float32).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def one(folder: Path) -> Iterator[Engine]:
    engine = open_engine(
        SPEC, folder=folder, batching=Batching(), workers=1, decode=spell, should_stop=unending
    )
    with closing(engine):
        yield engine


@pytest.fixture(scope="module")
def two(folder: Path) -> Iterator[Engine]:
    opening = partial(open_engine, folder=folder, workers=1, decode=spell)
    batching = Batching(part_rows=8)
    with closing(
        open_replicas(TWO, SPEC, opening, batching=batching, should_stop=unending)
    ) as engine:
        yield engine


def many() -> list[Request]:
    return requests([ids for seed in range(12) for ids in prompts(8, seed)], *DECODINGS)


@pytest.mark.slow
def test_two_replicas_give_the_answers_of_one_engine(one: Engine, two: Engine) -> None:
    found, expected = by_row(two.generate(many())), by_row(one.generate(many()))
    assert found.keys() == expected.keys()
    for row, answer in expected.items():
        assert found[row].token_ids == answer.token_ids
        assert (found[row].text, found[row].finish_reason) == (answer.text, answer.finish_reason)
        assert found[row].logprob_mean == pytest.approx(answer.logprob_mean, abs=1e-5)
    mine: Any = one.facts()
    theirs: Any = two.facts()
    assert all(each["useful_tokens"] > 0 for each in theirs["each"])
    assert theirs["workers"] == 2
    for name in ("tier", "device", "dtype", "batch_invariant"):
        assert theirs[name] == mine[name]
    assert theirs["useful_tokens"] == pytest.approx(mine["useful_tokens"], rel=0.02)
    assert 0 < theirs["mfu"] < 1
    assert 0 < theirs["useful_token_share"] <= 1


@pytest.mark.slow
def test_two_replicas_give_the_likelihoods_of_one_engine(one: Engine, two: Engine) -> None:
    contexts = prompts(8, seed=3)
    submitted = [
        Continuation(n, contexts[n % 8], text)
        for n, text in enumerate(ids for seed in range(4) for ids in prompts(8, seed))
    ]
    expected = {each.index: each for each in one.likelihoods(submitted)}
    found = {each.index: each for each in two.likelihoods(submitted)}
    assert found.keys() == expected.keys() == set(range(32))
    for index, likelihood in expected.items():
        assert found[index].logprobs == pytest.approx(likelihood.logprobs, abs=1e-5)
        assert found[index].greedy == likelihood.greedy


@pytest.mark.slow
def test_the_error_of_a_model_that_cannot_be_loaded_names_its_device(tmp_path: Path) -> None:
    opening = partial(open_engine, folder=tmp_path / "nowhere", workers=1, decode=spell)
    with pytest.raises(ModelError, match="on cpu: no such model folder"):
        open_replicas(TWO, SPEC, opening, batching=Batching(), should_stop=unending)


@pytest.mark.parametrize(
    ("device", "taken"),
    [("cpu", []), ("cuda", ["cuda:0", "cuda:1", "cuda:2"]), ("cuda:1", ["cuda:1"])],
)
def test_all_gpus_are_used_by_default(device: str, taken: list[str]) -> None:
    assert usable_gpus(torch.device(device), count=3) == taken


@pytest.mark.parametrize(
    ("submitted", "reason"), [("auto", "auto: one per GPU"), (3, "run.workers")]
)
def test_an_engine_on_a_gpu_is_one_process(submitted: Any, reason: str) -> None:
    for device in ("cuda", "cuda:1"):
        chosen = step_workers(submitted, torch.device(device))
        assert (chosen.count, chosen.reason) == (1, reason)
    assert step_workers(3, CPU).count == 3


def test_a_plan_on_a_cpu_uses_no_gpu(folder: Path) -> None:
    planned = estimate_torch_engine(folder, SPEC, batching=Batching(), workers=3)
    assert planned.workers == Workers(3, "run.workers")
