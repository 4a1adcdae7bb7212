"""What every engine guarantees, as a table: each test runs on each engine, through the protocol alone."""

import importlib.util
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest

from batchgen.engines.contract import Engine, EngineInfo
from batchgen.engines.echo import INFO as ECHO
from batchgen.engines.echo import EchoEngine
from batchgen.engines.engine_registry import open_engine
from batchgen.engines.openvino.openvino_entry import INFO as OPENVINO
from batchgen.engines.torch.entry import INFO as TRANSFORMERS
from batchgen.engines.vllm.vllm_entry import INFO as VLLM
from batchgen.job.spec import Batching, ModelSpec
from batchgen.records import Completion, Continuation, Request, ResolvedDecoding
from tests.engines.replicas.fake_engines import echo, replicas
from tests.engines.torch.tiny_models import break_token, engine, prompts, spell, tiny_model
from tests.engines.vllm.fake_vllm import write_package
from tests.plain_decoder import PlainDecoder

BROKEN = 1
"""A token that no prompt has and no model here generates; its embedding is NaN, or the engine refuses it."""
UNKNOWN = 1000
"""A token that no model here has."""
GREEDY = ResolvedDecoding(max_new_tokens=6)
SAMPLED = ResolvedDecoding(max_new_tokens=6, temperature=1.0, logprobs=True)


def tiny(family: str) -> Engine:
    model = tiny_model(family)
    reads: Any = model
    break_token(reads.encoder if model.config.is_encoder_decoder else reads, BROKEN)
    return engine(model, max_rows=4, part_rows=4)


def unending() -> bool:
    return False


def registered(name: str, folder: Path) -> Engine:
    """An engine as the registry opens it, in a process of its own."""
    return open_engine(
        ModelSpec(path=str(folder), engine=name, dtype="float32"),
        folder=folder,
        batching=Batching(max_rows=4, part_rows=4),
        decode=PlainDecoder(spell),
        should_stop=unending,
    )


@contextmanager
def openvino() -> Iterator[Engine]:
    """The library, with a tiny converted model."""
    from tests.engines.openvino.tiny_graph import write_tiny_folder

    with TemporaryDirectory() as name, mock.patch.dict(os.environ, BATCHGEN_CACHE=name):
        folder = Path(name) / "model"
        write_tiny_folder(folder)
        with closing(registered("openvino", folder)) as one:
            yield one


@contextmanager
def fake_vllm() -> Iterator[Engine]:
    """A stand-in for the package, which repeats prompts."""
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        write_package(folder)
        patch.syspath_prepend(folder)
        patch.setenv("FAKE_VLLM", json.dumps({str(BROKEN): "refuse"}))
        tiny_model("llama").save_pretrained(folder / "model")
        with closing(registered("vllm", folder / "model")) as one:
            yield one


OPENED: dict[str, tuple[Callable[[], AbstractContextManager[Engine]], EngineInfo]] = {
    "echo": (lambda: closing(EchoEngine(spell)), ECHO),
    "replicas": (lambda: closing(replicas(*[partial(echo, spell)] * 2)), ECHO),
    "continuous": (lambda: closing(tiny("llama")), TRANSFORMERS),
    "static": (lambda: closing(tiny("lfm2")), TRANSFORMERS),
    "generate": (lambda: closing(tiny("t5")), TRANSFORMERS),
    "openvino": (openvino, OPENVINO),
    "vllm": (fake_vllm, VLLM),
}
FAILURES = {"openvino": (UNKNOWN, "unknown_token"), "vllm": (BROKEN, "request_refused")}
"""A token that makes a row fail, and why."""


def marks(name: str) -> list[pytest.MarkDecorator]:
    absent = name == "openvino" and importlib.util.find_spec("openvino_genai") is None
    slow = [pytest.mark.slow] if name in ("replicas", "openvino", "vllm") else []
    return [*slow, pytest.mark.skipif(absent, reason="needs openvino-genai")]


PARAMS = [pytest.param(name, marks=marks(name)) for name in OPENED]


@pytest.fixture(scope="module", params=PARAMS)
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, EngineInfo]]:
    open_it, info = OPENED[request.param]
    with open_it() as one:
        yield one, info


@pytest.fixture
def answers(opened: tuple[Engine, EngineInfo]) -> Engine:
    return opened[0]


def make_requests(decoding: ResolvedDecoding = GREEDY, samples: int = 1) -> list[Request]:
    rows = enumerate(prompts(8))
    return [
        Request(index, sample, ids, decoding, seed=100 * index + sample)
        for index, ids in rows
        for sample in range(samples)
    ]


def by_key(engine: Engine, requests: Sequence[Request]) -> dict[tuple[int, int], Completion]:
    found = list(engine.generate(iter(requests)))
    keyed = {(one.index, one.sample): one for one in found}
    assert len(keyed) == len(found), "a request was answered twice"
    return keyed


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_every_request_is_answered_once_and_alike_in_any_order(
    opened: tuple[Engine, EngineInfo], decoding: ResolvedDecoding
) -> None:
    engine, info = opened
    requests = make_requests(decoding, samples=2)
    first = by_key(engine, requests)
    assert first.keys() == {(one.index, one.sample) for one in requests}
    shuffled = by_key(engine, random.Random(7).sample(requests, len(requests)))
    assert info.seeds
    for key, one in first.items():
        assert (one.failure, one.seed_honored) == (None, True)
        assert one.finish_reason in ("stop", "length")
        assert one.text == spell(one.token_ids)
        assert len(one.token_ids) <= decoding.max_new_tokens
        assert (one.logprob_mean is not None) == decoding.logprobs
        assert list(shuffled[key].token_ids) == list(one.token_ids)


def test_no_requests_give_no_answers(answers: Engine) -> None:
    assert by_key(answers, []) == {}


def test_requests_are_pulled_and_closing_discards_pending_ones(answers: Engine) -> None:
    expected = {key: list(one.token_ids) for key, one in by_key(answers, make_requests()).items()}
    pulled: list[int] = []

    def stream() -> Iterator[Request]:
        for number in range(10_000):
            pulled.append(number)
            yield Request(number, 0, [5, 6, 7], GREEDY, seed=0)

    running = answers.generate(stream())
    assert pulled == [], "nothing is pulled before the first completion is wanted"
    next(running)
    assert len(pulled) < 100
    count = len(pulled)
    running.close()  # type: ignore[attr-defined]  # every engine's iterator is a generator
    found = {key: list(one.token_ids) for key, one in by_key(answers, make_requests()).items()}
    assert (found, len(pulled)) == (expected, count)


def test_a_row_that_fails_affects_no_other(
    opened: tuple[Engine, EngineInfo], request: pytest.FixtureRequest
) -> None:
    engine, info = opened
    token, code = FAILURES.get(request.node.callspec.id, (BROKEN, "nonfinite_logits"))
    if info.needs == "nothing":
        pytest.skip("no request of this engine can fail")
    expected = by_key(engine, make_requests())
    requests = make_requests()
    requests.insert(3, Request(99, 0, [7, token, 9], GREEDY, seed=0))
    found = by_key(engine, requests)
    failed = found.pop((99, 0))
    assert failed.finish_reason == "error"
    assert failed.failure is not None
    assert (failed.failure.code, tuple(failed.token_ids)) == (code, ())
    assert {k: list(one.token_ids) for k, one in found.items()} == {
        k: list(one.token_ids) for k, one in expected.items()
    }


def test_every_continuation_has_one_likelihood(
    opened: tuple[Engine, EngineInfo], request: pytest.FixtureRequest
) -> None:
    engine, info = opened
    if request.node.callspec.id == "generate":
        pytest.skip("an encoder-decoder model computes no likelihoods")
    if not info.likelihoods:
        pytest.skip("declares that it computes none")
    texts = [
        Continuation(10 * row + length, context, context[:length])
        for row, context in enumerate(prompts(6))
        for length in (1, 2, 3)
    ]
    found = {one.index: one for one in engine.likelihoods(texts)}
    again = {one.index: one for one in engine.likelihoods(reversed(texts))}
    assert found.keys() == again.keys() == {one.index for one in texts}
    for one in texts:
        likelihood = found[one.index]
        assert likelihood.failure is None
        assert len(likelihood.logprobs) == len(one.token_ids)
        assert likelihood.total < 0
        assert likelihood.total == pytest.approx(again[one.index].total, abs=1e-9)


def test_facts_are_plain_and_state_batch_invariance(opened: tuple[Engine, EngineInfo]) -> None:
    engine, info = opened
    facts = {**info.facts(), **engine.facts()}
    assert json.loads(json.dumps(facts)).keys() == facts.keys()
    assert isinstance(facts["batch_invariant"], bool)
    assert facts["batch_invariant_reason"]
    assert (facts["engine"], facts["token_exact"]) == (engine.name, True)
