"""Plain `generate`: the same text as the static tier, and the models and fields that only it supports."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from batchgen.engines.torch.generate.generate_runner import GenerateRunner, Grouping
from batchgen.errors import ModelError
from batchgen.records import ResolvedDecoding
from tests.engines.torch.tiny_models import (
    alone,
    assert_recorded,
    break_token,
    by_row,
    cohort,
    generated,
    loaded,
    options,
    plain,
    prompts,
    requests,
    spell,
    teacher_forced,
    tiny_model,
)

SAMPLED = ResolvedDecoding(max_new_tokens=8, temperature=1.2, top_p=0.9, logprobs=True)


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return tiny_model("llama")


@pytest.mark.parametrize(
    ("family", "grouping"),
    [
        ("t5", "padded"),
        ("phi3", "padded"),
        ("bloom", "same length"),
        ("recurrent_gemma", "same length"),
    ],
)
def test_models_without_static_tier_answer_as_each_row_alone(
    family: str, grouping: Grouping
) -> None:
    model = tiny_model(family)
    submitted = requests([*prompts(3), prompts(3)[0][::-1]])
    found = by_row(plain(model, rows=4, grouping=grouping).generate(submitted))
    for request in submitted:
        assert [list(found[request.index].token_ids)] == alone(model, request.token_ids)


MIXED = [
    ResolvedDecoding(max_new_tokens=8),
    SAMPLED,
    ResolvedDecoding(max_new_tokens=5, temperature=0.8, top_k=9, repetition_penalty=1.3),
    ResolvedDecoding(max_new_tokens=8, min_new_tokens=4, no_repeat_ngram_size=2),
]


@pytest.mark.parametrize("grouping", ["padded", "same length", "single"])
def test_every_tier_gives_the_same_completions(llama: PreTrainedModel, grouping: Grouping) -> None:
    ended = [replace(one, end_token_ids=frozenset(range(3, 12))) for one in MIXED]
    submitted = requests(prompts(), *ended)
    found = by_row(plain(llama, rows=5, grouping=grouping).generate(submitted))
    expected = by_row(cohort(llama, rows=5).generate(submitted))
    assert {r: replace(c, logprob_mean=None) for r, c in found.items()} == {
        r: replace(c, logprob_mean=None) for r, c in expected.items()
    }
    assert {c.finish_reason for c in found.values()} == {"stop", "length"}
    assert found[1].logprob_mean == pytest.approx(expected[1].logprob_mean, abs=1e-4)


def test_stop_strings_and_nan_end_only_their_row() -> None:
    model = tiny_model("llama", torch.float32)
    submitted = [[96, *ids] if row == 2 else ids for row, ids in enumerate(prompts())]
    sound = by_row(plain(model, rows=5).generate(requests(submitted)))
    stop = spell(sound[0].token_ids[2:4])
    decodings = [
        ResolvedDecoding(max_new_tokens=10, stop_strings=(stop,) if row == 0 else ())
        for row in range(5)
    ]
    break_token(model, 96)
    found = by_row(plain(model, rows=5).generate(requests(submitted, *decodings)))
    assert (found[0].finish_reason, found[2].finish_reason) == ("stop_string", "error")
    assert sound[0].text.startswith(found[0].text + stop)
    assert found[2].failure is not None
    for row in (1, 3, 4):
        if 96 not in sound[row].token_ids:
            assert found[row] == sound[row]


FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "suppress_tokens": ({"suppress_tokens": list(range(3, 50))}, {}),
    "bad_words_ids": ({"bad_words_ids": [[n] for n in range(50, 97)]}, {}),
    "with a penalty": ({"suppress_tokens": list(range(50, 97))}, {"repetition_penalty": 1.5}),
    "watermark": ({"watermarking_config": {"bias": 6.0, "seeding_scheme": "lefthash"}}, {}),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_generate_have_the_same_effect(llama: PreTrainedModel, name: str) -> None:
    own, ours = FIELDS[name]
    decoding = ResolvedDecoding(max_new_tokens=10, generation_kwargs=tuple(own.items()), **ours)
    submitted = requests(prompts(3), decoding)
    found = by_row(plain(llama, rows=3).generate(submitted))
    for request in submitted:
        assert [list(found[request.index].token_ids)] == alone(
            llama, request.token_ids, **own, **ours
        )
        assert [list(found[request.index].token_ids)] != alone(llama, request.token_ids, **ours)


def test_typical_sampling_draws_only_tokens_that_transformers_keeps(llama: PreTrainedModel) -> None:
    decoding = replace(SAMPLED, max_new_tokens=1, generation_kwargs=(("typical_p", 0.3),))
    prompt = prompts(1)[0]
    submitted = [
        replace(request, index=seed, seed=seed)
        for seed in range(60)
        for request in requests([prompt], decoding)
    ]
    drawn = {c.token_ids[0] for c in plain(llama, rows=60).generate(submitted)}
    made = generated(
        llama,
        prompt,
        do_sample=True,
        temperature=1.2,
        top_p=0.9,
        top_k=0,
        typical_p=0.3,
        max_new_tokens=1,
        output_scores=True,
        return_dict_in_generate=True,
    )
    kept = set(made.scores[0][0].isfinite().nonzero()[:, 0].tolist())
    assert len(drawn) > 1
    assert drawn <= kept
    assert len(kept) < 97


@pytest.mark.parametrize(
    "own", [(), (("suppress_tokens", [5, 6]),)], ids=["own sampler", "fields of generate"]
)
def test_log_probabilities_are_those_of_teacher_forcing(
    llama: PreTrainedModel, own: tuple[tuple[str, object], ...]
) -> None:
    submitted = requests(prompts(3), replace(SAMPLED, generation_kwargs=own, top_logprobs=4))
    for answer in plain(llama, rows=3).generate(submitted):
        prompt = submitted[answer.index].token_ids
        expected = teacher_forced(llama, prompt, answer.token_ids)
        assert answer.logprob_mean == pytest.approx(expected, abs=1e-4)
        assert_recorded(llama, prompt, answer)


def test_settings_that_generate_rejects_are_an_error(llama: PreTrainedModel) -> None:
    decoding = ResolvedDecoding(generation_kwargs=(("sequence_bias", 3),))
    with pytest.raises(ModelError, match="does not support these settings"):
        list(plain(llama, rows=1).generate(requests(prompts(1), decoding)))


def test_a_stop_request_returns_only_finished_rows(llama: PreTrainedModel) -> None:
    steps = iter([False] * 4 + [True] * 99)
    runner = GenerateRunner(loaded(llama), options(lambda: next(steps)), "padded")
    submitted = requests(prompts(), *[ResolvedDecoding(max_new_tokens=n) for n in (3, 9)])
    assert sorted(by_row(runner.run(submitted))) == [0, 2, 4]
