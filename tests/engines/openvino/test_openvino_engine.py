"""The engine with the real library and a tiny model, against `generate` of transformers."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from batchgen.engines.contract import Engine
from batchgen.job.spec import Batching, ModelSpec
from batchgen.records import Completion, Request, ResolvedDecoding
from tests.engines.torch.tiny_models import spell

pytest.importorskip("openvino_genai")

from batchgen.engines.openvino.open_openvino import open_openvino_engine
from tests.engines.openvino.tiny_graph import VOCABULARY, write_tiny_folder

NEW_TOKENS = 12
END = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    return write_tiny_folder(folder)


@pytest.fixture(scope="module")
def engine(
    folder: Path, reference: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    del reference
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCHGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        with closing(open_tiny(folder)) as opened:
            yield opened


def open_tiny(folder: Path, **batching: Any) -> Engine:
    sizes = {"max_rows": 4, "max_tokens": 2048, **batching}
    return open_openvino_engine(
        folder,
        ModelSpec(path=str(folder), engine="openvino", dtype="float32"),
        batching=Batching(**sizes),
        decode=spell,
        should_stop=lambda: False,
    )


def prompts(count: int = 12) -> list[list[int]]:
    return [[(7 * k + 5 * row) % 90 + 3 for k in range(3 + 4 * row)] for row in range(count)]


def ask(
    engine: Engine, rows: Sequence[Sequence[int]], decoding: ResolvedDecoding
) -> list[Completion]:
    requests = [Request(n, 0, ids, decoding, seed=1000 + n) for n, ids in enumerate(rows)]
    return sorted(engine.generate(iter(requests)), key=lambda one: one.index)


def plain(reference: Any, ids: Sequence[int], **options: Any) -> Any:
    return reference.generate(
        torch.tensor([ids]),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        **options,
    )


GREEDY = ResolvedDecoding(max_new_tokens=NEW_TOKENS, end_token_ids=frozenset({END}))


@pytest.mark.parametrize(
    ("changed", "options"),
    [
        ({}, {}),
        ({"repetition_penalty": 1.7}, {"repetition_penalty": 1.7}),
        ({"end_token_ids": frozenset({5, 12, 13, 50})}, {"eos_token_id": [5, 12, 13, 50]}),
        (
            {"min_new_tokens": 9, "end_token_ids": frozenset({5, 12, 13, 50})},
            {"min_new_tokens": 9, "eos_token_id": [5, 12, 13, 50]},
        ),
        ({"end_token_ids": frozenset()}, {"eos_token_id": -1}),
        ({"temperature": 1.5, "top_k": 1}, {}),
        ({"temperature": 0.5, "min_p": 0.9999}, {}),
        ({"temperature": 0.5, "top_p": 1e-6}, {}),
    ],
)
def test_answers_are_those_of_generate(
    engine: Engine, reference: Any, changed: dict[str, Any], options: dict[str, Any]
) -> None:
    found = ask(engine, prompts(), replace(GREEDY, **changed))
    for ids, one in zip(prompts(), found, strict=True):
        expected = plain(reference, ids, **options).sequences[0, len(ids) :].tolist()
        assert list(one.token_ids) == expected
        ended = expected[-1] in replace(GREEDY, **changed).end_token_ids
        assert one.finish_reason == ("stop" if ended else "length")
        assert one.text == spell(expected[:-1] if ended else expected)


def test_log_probabilities_are_those_of_the_unmodified_distribution(
    engine: Engine, reference: Any
) -> None:
    decoding = replace(GREEDY, repetition_penalty=1.7, logprobs=True, top_logprobs=0)
    for ids, one in zip(prompts(), ask(engine, prompts(), decoding), strict=True):
        logits = plain(reference, ids, repetition_penalty=1.7).logits
        logprobs = [torch.log_softmax(step[0].double(), -1) for step in logits]
        expected = [float(p[t]) for p, t in zip(logprobs, one.token_ids, strict=True)]
        assert one.logprob_mean == pytest.approx(sum(expected) / len(expected), abs=1e-4)
        assert one.token_logprobs is not None
        assert list(one.token_logprobs.token_ids) == list(one.token_ids)
        assert list(one.token_logprobs.logprobs) == pytest.approx(expected, abs=1e-4)


def test_a_seed_decides_a_sampled_answer_with_any_neighbors(engine: Engine) -> None:
    decoding = replace(GREEDY, temperature=1.5)
    together = ask(engine, prompts(), decoding)
    for number in (0, 7, 11):
        request = Request(number, 0, prompts()[number], decoding, seed=1000 + number)
        (alone,) = engine.generate(iter([request]))
        assert list(alone.token_ids) == list(together[number].token_ids)
        others = [replace(request, seed=seed) for seed in range(5)]
        answers = {tuple(one.token_ids) for one in engine.generate(iter(others))}
        assert len(answers) > 1


def test_a_stop_string_ends_an_answer_at_once(engine: Engine) -> None:
    whole = ask(engine, prompts(), GREEDY)
    stop = spell(whole[0].token_ids[3:5])
    found = ask(engine, prompts(), replace(GREEDY, max_new_tokens=200, stop_strings=(stop,)))
    assert found[0].finish_reason == "stop_string"
    assert found[0].text == whole[0].text[: whole[0].text.index(stop)]
    assert len(found[0].token_ids) <= 6
    for one in found:
        assert stop not in one.text


def test_a_row_with_an_unknown_token_fails_alone(engine: Engine) -> None:
    rows = [*prompts(), [5, VOCABULARY, 7]]
    *good, failed = ask(engine, rows, GREEDY)
    assert failed.failure is not None
    assert failed.failure.code == "unknown_token"
    expected = ask(engine, prompts(), GREEDY)
    assert [list(one.token_ids) for one in good] == [list(one.token_ids) for one in expected]


def test_a_row_that_does_not_fit_in_the_cache_fails_alone(folder: Path, reference: Any) -> None:
    del reference
    longest = 128 - NEW_TOKENS
    rows = [[3 + n % 80 for n in range(size)] for size in (9, longest + 1, longest, 60, 90, 100)]
    with closing(open_tiny(folder, max_tokens=128)) as small:
        first, failed, *others = ask(small, rows, GREEDY)
    assert failed.failure is not None
    assert failed.failure.code == "out_of_memory"
    assert [one.failure for one in (first, *others)] == [None] * 5


def test_facts_state_the_measured_batch_invariance(engine: Engine) -> None:
    facts = engine.facts()
    assert isinstance(facts["batch_invariant"], bool)
    assert "4 prompts alone and together" in str(facts["batch_invariant_reason"])
    assert facts["dtype"] == "float32"
