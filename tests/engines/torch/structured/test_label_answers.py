"""Requests with labels: their answers are those of a plain forward, in every tier, mixture and order."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from transformers import PreTrainedModel

from batchgen.decoding_settings import ResolvedDecoding
from batchgen.engines.torch.structured.label_answers import LabelSplit
from batchgen.records import Completion, Request
from batchgen.structured.disjoint_labels import disjoint_logprobs
from tests.engines.torch.structured.letters import formed, tokens
from tests.engines.torch.tiny_models import (
    by_row,
    engine,
    forced_table,
    prompts,
    requests,
    tiny_model,
)

LABELS = ["in", "inside", "o", "(x)ut", "(y)", "yes"]
DECIDING = ["in", "ins", "o", "(x", "(y", "y"]
"""Each token is a letter."""
GREEDY = formed("choice", json.dumps(LABELS), logprobs=True)
FREE = ResolvedDecoding(max_new_tokens=6)


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return tiny_model("llama")


def with_labels(count: int, *decodings: ResolvedDecoding) -> list[Request]:
    """Requests of which those with a grammar have labels."""
    labels = [tokens(label) for label in LABELS]
    return [
        one if one.decoding.grammar is None else replace(one, label_tokens=labels)
        for one in requests(prompts(count), *decodings)
    ]


def expected_logprobs(model: PreTrainedModel, prompt: Sequence[int]) -> list[float]:
    sums = [
        sum(
            float(row[token])
            for row, token in zip(forced_table(model, prompt, ids), ids, strict=True)
        )
        for ids in map(tokens, DECIDING)
    ]
    return disjoint_logprobs(sums, [tokens(label) for label in DECIDING])


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba", "t5"])
@pytest.mark.parametrize("logprobs", [False, True])
def test_the_answer_is_the_label_that_a_plain_forward_finds_most_likely(
    family: str, *, logprobs: bool
) -> None:
    model = tiny_model(family)
    submitted = with_labels(6, replace(GREEDY, logprobs=logprobs))
    for row, answer in by_row(engine(model).generate(submitted)).items():
        assert (answer.logprob_mean is not None) == logprobs
        expected = expected_logprobs(model, prompts(6)[row])
        assert answer.label_logprobs == pytest.approx(expected, abs=1e-6)
        best = expected.index(max(expected))
        assert (answer.text, list(answer.token_ids)) == (LABELS[best], tokens(LABELS[best]))
        assert answer.finish_reason == "stop"


def rounded(answers: dict[int, Completion]) -> dict[int, Any]:
    """Answers without the last digits of their numbers."""
    return {
        row: (
            one.text,
            tuple(one.token_ids),
            one.finish_reason,
            None if one.label_logprobs is None else [round(x, 6) for x in one.label_logprobs],
        )
        for row, one in answers.items()
    }


@pytest.mark.parametrize("batching", [{}, {"max_rows": 2}, {"max_tokens": 96}, {"part_rows": 3}])
def test_neighbours_order_and_batches_change_no_answer(
    llama: PreTrainedModel, batching: dict[str, Any]
) -> None:
    sampled = replace(GREEDY, temperature=1.0)
    submitted = with_labels(8, GREEDY, FREE, sampled)
    alone: dict[int, Completion] = {}
    for one in submitted:
        alone |= by_row(engine(llama).generate([one]))
    together = by_row(engine(llama, **batching).generate(submitted[::-1]))
    assert rounded(together) == rounded(alone)


def test_the_engine_can_be_used_again_after_a_stop(llama: PreTrainedModel) -> None:
    used = engine(llama)
    running: Any = used.generate(with_labels(8, GREEDY))
    next(running)
    running.close()
    mixed = with_labels(8, GREEDY, FREE)
    again = by_row(used.generate(mixed))
    assert rounded(again) == rounded(by_row(engine(llama).generate(mixed)))


def test_a_stream_is_split_without_a_loss() -> None:
    some = with_labels(8, GREEDY, FREE, FREE, GREEDY, GREEDY)
    split = LabelSplit(iter(some))
    others: list[int] = []
    labelled: list[int] = []
    while not split.ended:
        others += [one.index for one in iter(partial(split.next_other, bool), None)]
        labelled += [one.index for one in split.labelled()]
    assert others == [one.index for one in some if not one.label_tokens]
    assert labelled == [one.index for one in some if one.label_tokens]
