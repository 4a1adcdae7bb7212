"""Beam search: the result of `generate` for each row alone, in any batch."""

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from batchgen.engines.torch.batched_tier import BatchedTier
from batchgen.engines.torch.generate.beam_search import BeamRunner
from batchgen.engines.torch.tier import TierOptions
from batchgen.planning.batches import BatchLimits
from batchgen.records import Request, ResolvedDecoding
from tests.engines.torch.tiny_models import (
    CPU,
    alone,
    assert_recorded,
    break_token,
    loaded,
    options,
    prompts,
    spell,
    teacher_forced,
    tiny_model,
)

BEAMS = ResolvedDecoding(max_new_tokens=8, num_beams=3, end_token_ids=frozenset(range(3, 9)))


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return tiny_model("llama")


def search(model: PreTrainedModel, options: TierOptions) -> BatchedTier:
    return BatchedTier(
        BeamRunner(loaded(model), options), BatchLimits(12, 10_000, "none"), CPU, options
    )


def each(count: int, decoding: ResolvedDecoding, samples: int = 1) -> list[Request]:
    """Requests for prompts of three lengths, two of them alike."""
    rows = [*prompts(count), prompts(count)[0]]
    return [
        Request(row, sample, ids, decoding, 0)
        for row, ids in enumerate(rows)
        for sample in range(samples)
    ]


@pytest.mark.parametrize("length_penalty", [1.0, -1.0, 2.0])
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_samples_are_the_best_beams_of_each_row_alone(family: str, length_penalty: float) -> None:
    model = tiny_model(family)
    submitted = each(3, replace(BEAMS, length_penalty=length_penalty), samples=2)
    found = {(c.index, c.sample): c for c in search(model, options()).generate(submitted)}
    assert len(found) == len(submitted)
    for row in range(4):
        prompt = next(r.token_ids for r in submitted if r.index == row)
        expected = alone(
            model,
            prompt,
            max_new_tokens=8,
            num_beams=3,
            num_return_sequences=2,
            length_penalty=length_penalty,
            eos_token_id=sorted(BEAMS.end_token_ids),
        )
        for sample, tokens in enumerate(expected):
            answer = found[row, sample]
            length = len(answer.token_ids)
            assert list(answer.token_ids) == tokens[:length]
            # Tokens after the end are transformers' padding.
            assert set(tokens[length:]) <= {0, 3}
            ended = answer.token_ids[-1] in BEAMS.end_token_ids
            assert answer.finish_reason == ("stop" if ended else "length")


def test_penalties_apply_in_beam_search(llama: PreTrainedModel) -> None:
    decoding = replace(BEAMS, repetition_penalty=1.4, no_repeat_ngram_size=2, min_new_tokens=4)
    (answer,) = search(llama, options()).generate(each(1, decoding)[:1])
    (expected,) = alone(
        llama,
        prompts(1)[0],
        max_new_tokens=8,
        num_beams=3,
        repetition_penalty=1.4,
        no_repeat_ngram_size=2,
        min_new_tokens=4,
        eos_token_id=sorted(BEAMS.end_token_ids),
    )
    assert list(answer.token_ids) == expected[: len(answer.token_ids)]


def test_a_stop_string_ends_a_beam(llama: PreTrainedModel) -> None:
    free = replace(BEAMS, end_token_ids=frozenset())
    (before,) = search(llama, options()).generate(each(1, free)[:1])
    stop = spell(before.token_ids[2:3])
    (answer,) = search(llama, options()).generate(each(1, replace(free, stop_strings=(stop,)))[:1])
    assert stop not in answer.text
    assert answer.finish_reason in ("stop_string", "length")


def test_log_probabilities_are_those_of_teacher_forcing(llama: PreTrainedModel) -> None:
    recorded = replace(BEAMS, logprobs=True, top_logprobs=2, repetition_penalty=1.3)
    submitted = each(2, recorded)
    for answer in search(llama, options()).generate(submitted):
        prompt = submitted[answer.index].token_ids
        expected = teacher_forced(llama, prompt, answer.token_ids)
        assert answer.logprob_mean == pytest.approx(expected, abs=1e-4)
        assert_recorded(llama, prompt, answer)


def test_a_row_with_nan_fails_alone() -> None:
    model = tiny_model("llama", torch.float32)
    free = replace(BEAMS, end_token_ids=frozenset())
    first = prompts(1)[0]
    rows = [first, [96, *first[1:]], first[::-1]]
    submitted = [Request(row, 0, ids, free, 0) for row, ids in enumerate(rows)]
    sound = {c.index: c for c in search(model, options()).generate(submitted)}
    break_token(model, 96)
    found = {c.index: c for c in search(model, options()).generate(submitted)}
    assert found[1].failure is not None
    assert found[1].failure.code == "nonfinite_logits"
    for row in (0, 2):
        if 96 not in sound[row].token_ids:
            assert found[row].token_ids == sound[row].token_ids


def test_a_stop_request_gives_no_partial_answers(llama: PreTrainedModel) -> None:
    steps = iter([False] * 3 + [True] * 99)
    free = replace(BEAMS, end_token_ids=frozenset())
    stopped = search(llama, options(lambda: next(steps)))
    assert list(stopped.generate(each(2, free))) == []
