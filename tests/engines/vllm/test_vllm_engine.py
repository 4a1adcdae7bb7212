"""The engine over a fake vLLM, in its own process: rows come back once each, and what vLLM does wrong stays there."""

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from batchgen.decoding_settings import AnswerGrammar
from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.errors import BatchgenError, DeathError, ModelError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.records import Completion, Continuation, Request, ResolvedDecoding
from tests.engines.replicas.test_replicated_engine import alive
from tests.engines.vllm.conftest import Install
from tests.engines.vllm.fake_vllm import SECRET, write_package
from tests.models.conftest import WriteModel
from tests.plain_decoder import PlainDecoder

END = 99
BEHAVIOUR = {"50": "refuse", "51": "error once", "52": "error", "53": "twice", "54": "print"}
PLAIN = ResolvedDecoding(max_new_tokens=6, end_token_ids=frozenset({END}))


def spell(token_ids: Sequence[int]) -> str:
    return "".join(f"<{token}>" for token in token_ids if token != END)


def opened(folder: Path, **sections: object) -> Engine:
    return open_engine(
        ModelSpec.model_validate({"path": str(folder), "engine": "vllm", **sections}),
        folder=folder,
        batching=Batching(max_rows=3),
        decode=PlainDecoder(spell),
        should_stop=lambda: False,
    )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, write_model: WriteModel) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("site")
    write_package(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("FAKE_VLLM", json.dumps(BEHAVIOUR))
        with closing(opened(write_model(folder / "model"), max_model_len=64)) as one:
            yield one


def request(index: int, ids: Sequence[int], decoding: ResolvedDecoding = PLAIN) -> Request:
    return Request(index, 0, ids, decoding, seed=index)


def answers(engine: Engine, requests: Sequence[Request]) -> dict[int, Completion]:
    found = list(engine.generate(iter(requests)))
    assert sorted(one.index for one in found) == sorted(one.index for one in requests)
    return {one.index: one for one in found}


def test_every_row_is_answered_once_and_short_ones_first(engine: Engine) -> None:
    rows = [request(n, range(1, 2 + n % 9)) for n in range(40)]
    found = list(engine.generate(iter(rows)))
    assert sorted(one.index for one in found) == list(range(40))
    assert [one.index for one in found] != list(range(40))
    for one in found:
        count = 1 + one.index % 9
        expected = [*range(1, 1 + count), END][:6]
        assert list(one.token_ids) == expected
        assert one.text == spell(expected)
        assert one.finish_reason == ("stop" if END in expected else "length")


def test_requests_are_pulled_as_they_are_needed(engine: Engine) -> None:
    pulled: list[int] = []

    def endless() -> Iterator[Request]:
        for number in range(10**6):
            pulled.append(number)
            yield request(number, [1, 2, 3])

    running = engine.generate(endless())
    next(running)
    assert len(pulled) <= 1024
    running.close()  # type: ignore[attr-defined]  # every engine's iterator is a generator
    assert len(answers(engine, [request(n, [4, 5]) for n in range(9)])) == 9


@pytest.mark.parametrize(
    ("stops", "least", "text", "reason"),
    [
        (("<3>",), 0, "<1><2>", "stop_string"),
        (("><4", "<3>"), 0, "<1><2>", "stop_string"),
        (("2><3",), 0, "<1><", "stop_string"),
        (("<2>",), 3, "<1><2><3><4><5><6>", "length"),
        (("<9>",), 0, "<1><2><3><4><5><6>", "length"),
    ],
)
def test_stop_strings_are_those_of_batchgen(
    engine: Engine, stops: tuple[str, ...], least: int, text: str, reason: str
) -> None:
    decoding = ResolvedDecoding(max_new_tokens=6, min_new_tokens=least, stop_strings=stops)
    (one,) = answers(engine, [request(0, range(1, 20), decoding)]).values()
    assert (one.text, one.finish_reason) == (text, reason)


def test_log_probabilities(engine: Engine) -> None:
    decoding = ResolvedDecoding(max_new_tokens=3, logprobs=True, top_logprobs=2)
    (one,) = answers(engine, [request(0, [5, 6, 7], decoding)]).values()
    assert one.logprob_mean == pytest.approx(-0.5)
    assert one.token_logprobs is not None
    assert one.token_logprobs.width == 3
    assert list(one.token_logprobs.token_ids[:3]) == [5, 5, 6]
    assert list(one.token_logprobs.logprobs[:3]) == [-0.5, -0.5, -1.5]
    decoding = ResolvedDecoding(max_new_tokens=3, logprobs=True)
    (one,) = answers(engine, [request(0, [5, 6, 7], decoding)]).values()
    assert one.logprob_mean == pytest.approx(-0.5)
    assert one.token_logprobs is None


def test_likelihoods_are_of_the_continuation_alone(engine: Engine) -> None:
    texts = [Continuation(n, range(1, 4 + n), [n + 2, 8]) for n in range(20)]
    found = {one.index: one for one in engine.likelihoods(iter(texts))}
    assert found.keys() == set(range(20))
    for one in texts:
        assert found[one.index].logprobs == tuple(-float(token) for token in one.token_ids)
        assert found[one.index].greedy == all(token % 2 == 0 for token in one.token_ids)
    (long,) = engine.likelihoods([Continuation(0, range(1, 64), [1])])
    assert long.failure is not None
    assert long.failure.code == "continuation_too_long"


def test_a_request_with_labels_is_answered_with_the_most_likely_one(engine: Engine) -> None:
    labels = AnswerGrammar("choice", json.dumps(["a", "b", "c"]))
    decoding = ResolvedDecoding(grammar=labels, logprobs=True)
    rows = [
        Request(n, 0, [1, 2], decoding, seed=n, label_tokens=([40], [29 + 2 * n, 15], [34]))
        for n in range(7)
    ]
    found = answers(engine, [*rows, request(7, [1, 2, 3])])
    assert found[7].label_logprobs is None
    for n, row in enumerate(rows):
        best = 1 if n <= 2 else 2  # the fake's log-probability of a token is its negative id
        assert found[n].text == "abc"[best]
        assert list(found[n].token_ids) == list(row.label_tokens[best])
        assert found[n].label_logprobs == pytest.approx(
            (-40.0, -29.0 - 2 * n, -34.0)
        )  # up to the deciding token


@pytest.mark.parametrize(
    ("ids", "temperature", "code"),
    [
        ([1, 50], 0.0, "request_refused"),
        (range(1, 90), 0.0, "request_refused"),
        ([1, 2], 0.005, "invalid_override"),
        ([1, 2], 2.5, "invalid_override"),
        ([1, 52], 0.0, "server_error"),
    ],
    ids=["refused", "too long", "cold", "hot", "error twice"],
)
def test_a_row_fails_alone(
    engine: Engine, ids: Sequence[int], temperature: float, code: str
) -> None:
    broken = request(5, ids, ResolvedDecoding(max_new_tokens=6, temperature=temperature))
    found = answers(engine, [*(request(n, [1, 2, 3]) for n in range(5)), broken])
    failure = found.pop(5).failure
    assert failure is not None
    assert failure.code == code
    assert SECRET not in failure.message
    assert all(one.failure is None for one in found.values())


def test_a_row_that_vllm_fails_once_is_asked_again_and_one_answered_twice_counts_once(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    found = answers(engine, [request(n, [51 + n, 7, 8]) for n in (0, 2, 3)])
    assert all(one.failure is None for one in found.values())
    assert list(found[0].token_ids) == [51, 7, 8, END]
    assert capfd.readouterr() == ("", ""), "what vLLM prints stays in its process"


def test_facts(engine: Engine) -> None:
    facts = dict(engine.facts())
    assert facts.pop("requests")
    assert facts == {
        "vllm": "0.99.0+cpu",
        "dtype": "float32",
        "quantization": "none",
        "attention_backend": "chosen by vLLM",
        "tensor_parallel": 1,
        "max_rows": 3,
        "batch_invariant": False,
        "batch_invariant_reason": "VLLM_BATCH_INVARIANT is not set",
    }


@pytest.fixture
def misbehaving(
    install: Install, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engine]:
    install()
    does = {
        "60": "die",
        "61": "crash",
        "62": "kill",
        "63": "wrong id",
        "64": "lose",
        "65": "kill core",
    }
    monkeypatch.setenv("FAKE_VLLM", json.dumps(does))
    with closing(opened(model_folder)) as one:
        yield one


@pytest.mark.parametrize(
    ("token", "error", "text"),
    [
        (60, DeathError, "vLLM's engine has died: OutOfMemoryError"),
        (61, DeathError, "vLLM's engine has died: RuntimeError"),
        (62, DeathError, "of vLLM has died, killed by SIGKILL"),
        (63, ModelError, "vLLM answered a request that it was not sent"),
        (64, ModelError, "vLLM has lost 1 requests"),
        (65, DeathError, "of vLLM has died"),
    ],
    ids=["dies", "crashes", "is killed", "wrong id", "loses a row", "loses its core"],
)
def test_an_engine_that_fails_ends_the_call_and_its_processes(
    misbehaving: Engine,
    token: int,
    error: type[BatchgenError],
    text: str,
) -> None:
    with pytest.raises(error, match=text) as caught:
        list(misbehaving.generate([request(0, [1, 2]), request(1, [1, token, 3, 4])]))
    assert SECRET not in str(caught.value)
    misbehaving.close()
    assert all_ended()


def test_a_killed_engine_core_is_a_death(misbehaving: Engine) -> None:
    running = misbehaving.generate(request(n, [1, 2, 3]) for n in range(10**6))
    next(running)
    os.kill(pids()[1], signal.SIGKILL)
    with pytest.raises(DeathError, match="vLLM"):
        list(running)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            "ValueError: No available memory for the cache blocks.",
            "ValueError: No available memory",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory.", "OutOfMemoryError: CUDA out of memory."),
    ],
)
def test_the_first_cause_of_a_failed_load_is_named(
    install: Install,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: str,
    shown: str,
) -> None:
    install()
    monkeypatch.setenv("FAKE_VLLM", json.dumps({"load": error}))
    with pytest.raises(ModelError) as caught:
        opened(model_folder)
    assert f"vLLM 0.99.0+cpu cannot load {model_folder}: {shown}" in caught.value.message


def test_an_engine_argument_of_a_wrong_type_is_a_failed_load(
    install: Install, model_folder: Path
) -> None:
    install()
    with pytest.raises(ModelError, match=r"cannot load .*: TypeError: .*no_such_argument"):
        opened(model_folder, engine_args={"no_such_argument": 1})


def pids() -> list[int]:
    return [int(pid) for pid in Path(os.environ["FAKE_VLLM_PIDS"]).read_text("utf-8").split()]


def all_ended() -> bool:
    started = pids()
    for _ in range(400):
        if not any(map(alive, started)):
            return True
        time.sleep(0.05)
    return False
