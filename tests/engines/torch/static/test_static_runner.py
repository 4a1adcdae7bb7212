"""The static tier: answers do not depend on the batch, for any family of models."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from batchgen.engines.torch.static.forward import group_by_length
from batchgen.engines.torch.static.static_runner import StaticRunner, compact_rows
from batchgen.records import Request, ResolvedDecoding
from tests.engines.torch.tiny_models import (
    alone,
    assert_recorded,
    break_token,
    by_row,
    cohort,
    loaded,
    options,
    prompts,
    requests,
    spell,
    teacher_forced,
    tiny_model,
)

FAMILIES = [
    "llama",
    "qwen3",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "mistral",
    "lfm2",
    "mamba",
    "bamba",
    "falcon_h1",
]
LIMITS = [10, 4, 12, 6, 9]
SAMPLED = ResolvedDecoding(max_new_tokens=10, temperature=1.2, top_p=0.9)


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return tiny_model("llama")


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_those_of_each_row_alone(family: str) -> None:
    model = tiny_model(family)
    submitted = requests(prompts(), *[ResolvedDecoding(max_new_tokens=n) for n in LIMITS])
    expected = [
        alone(model, r.token_ids, max_new_tokens=r.decoding.max_new_tokens)[0] for r in submitted
    ]
    assert len(set(map(tuple, expected))) == len(expected)
    for rows, order in ((5, submitted), (3, submitted[::-1])):
        found = by_row(cohort(model, rows=rows).generate(order))
        assert [list(found[row].token_ids) for row in range(len(submitted))] == expected
        assert {one.finish_reason for one in found.values()} == {"length"}


def test_a_row_ends_with_its_first_end_token(llama: PreTrainedModel) -> None:
    prompt = prompts(1)[0]
    free = alone(llama, prompt)[0]
    end = free[4]
    decoding = ResolvedDecoding(max_new_tokens=10, end_token_ids=frozenset({end, 96}))
    (answer,) = cohort(llama, rows=1).generate(requests([prompt], decoding))
    kept = free[: free.index(end) + 1]
    assert (answer.token_ids, answer.finish_reason) == (kept, "stop")
    assert answer.text == spell(kept[:-1])


def test_a_row_ends_before_its_stop_string(llama: PreTrainedModel) -> None:
    submitted = prompts()
    free = alone(llama, submitted[1])[0]
    plain, stopped = ResolvedDecoding(max_new_tokens=10), spell(free[3:5])
    decodings = [plain, replace(plain, stop_strings=(stopped,)), plain, plain, plain]
    found = by_row(cohort(llama, rows=5).generate(requests(submitted, *decodings)))
    cut = spell(free).index(stopped)
    assert (found[1].text, found[1].finish_reason) == (spell(free)[:cut], "stop_string")
    assert [len(found[row].token_ids) for row in (0, 2, 3, 4)] == [10] * 4


SETTINGS = {
    "temperature": ResolvedDecoding(max_new_tokens=8, temperature=0.9),
    "top_k": ResolvedDecoding(max_new_tokens=8, temperature=1.5, top_k=5),
    "penalties": ResolvedDecoding(
        max_new_tokens=8, temperature=1.0, repetition_penalty=1.4, no_repeat_ngram_size=2
    ),
    "min_new_tokens": ResolvedDecoding(
        max_new_tokens=8, temperature=1.0, min_new_tokens=5, end_token_ids=frozenset(range(3, 60))
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_sampled_row_draws_the_same_text_in_any_batch(llama: PreTrainedModel, name: str) -> None:
    submitted = requests(prompts(), SETTINGS[name], SAMPLED)
    together = by_row(cohort(llama, rows=5).generate(submitted))
    reversed_ = by_row(cohort(llama, rows=2).generate(submitted[::-1]))
    single = by_row(cohort(llama, rows=1).generate(submitted))
    assert together == reversed_ == single
    assert len({tuple(one.token_ids) for one in together.values()}) == len(submitted)


def test_greedy_penalties_are_those_of_generate(llama: PreTrainedModel) -> None:
    decoding = ResolvedDecoding(max_new_tokens=10, repetition_penalty=1.5, no_repeat_ngram_size=2)
    submitted = requests(prompts(), decoding)
    found = by_row(cohort(llama, rows=5).generate(submitted))
    for request in submitted:
        expected = alone(llama, request.token_ids, repetition_penalty=1.5, no_repeat_ngram_size=2)
        assert [list(found[request.index].token_ids)] == expected


def test_samples_of_a_row_differ_and_do_not_depend_on_their_number(
    llama: PreTrainedModel,
) -> None:
    def seeded(sample: int) -> Request:
        return Request(0, sample, prompts(1)[0], SAMPLED, seed=sample)

    three = {c.sample: c for c in cohort(llama, rows=3).generate([seeded(s) for s in range(3)])}
    assert len({one.text for one in three.values()}) == 3
    (second,) = cohort(llama, rows=3).generate([seeded(1)])
    assert second == three[1]


@pytest.mark.parametrize("family", ["llama", "bamba"])
def test_log_probabilities_are_those_of_teacher_forcing(family: str) -> None:
    model = tiny_model(family)
    decoding = ResolvedDecoding(
        max_new_tokens=8, temperature=1.3, repetition_penalty=1.3, logprobs=True, top_logprobs=5
    )
    fewer = replace(decoding, max_new_tokens=3, top_logprobs=0)
    submitted = requests(prompts(4), decoding, fewer)
    for answer in cohort(model, rows=4).generate(submitted):
        prompt = submitted[answer.index].token_ids
        expected = teacher_forced(model, prompt, answer.token_ids)
        assert answer.logprob_mean == pytest.approx(expected, abs=1e-4)
        assert_recorded(model, prompt, answer)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "lfm2"])
def test_a_row_with_nan_fails_alone(family: str) -> None:
    model = tiny_model(family, torch.float32)
    submitted = requests([[96, *ids] if row == 2 else ids for row, ids in enumerate(prompts())])
    sound = by_row(cohort(model, rows=5).generate(submitted))
    break_token(model, 96)
    found = by_row(cohort(model, rows=5, forward_cost=100).generate(submitted))
    assert found[2].failure is not None
    assert (found[2].failure.code, found[2].token_ids) == ("nonfinite_logits", ())
    for row in (0, 1, 3, 4):
        if 96 not in sound[row].token_ids:
            assert found[row] == sound[row]


def test_a_stop_request_ends_the_run_at_a_step_without_partial_answers(
    llama: PreTrainedModel,
) -> None:
    steps: Iterator[bool] = iter([False] * 4 + [True] * 99)
    runner = StaticRunner(loaded(llama), options(lambda: next(steps)))
    submitted = requests(prompts(), *[ResolvedDecoding(max_new_tokens=n) for n in (3, 9)])
    found = by_row(runner.run(submitted))
    assert sorted(found) == [0, 2, 4]
    assert all(len(one.token_ids) == 3 for one in found.values())


def test_padding_of_a_cohort_is_limited(llama: PreTrainedModel) -> None:
    # Sorted: 23, 17, 11, 5, 3 tokens. 23 and 17 pad 6, 11 with 5 another 6, and 3 would add 8.
    runner = StaticRunner(loaded(llama), replace(options(), padding_tokens=6))
    submitted = requests(prompts())
    found = list(runner.run(submitted))
    assert [c.index for c in found] == [1, 4, 2, 0, 3]
    assert by_row(found) == by_row(cohort(llama, rows=5).generate(submitted))


def test_rows_are_returned_as_they_finish(llama: PreTrainedModel) -> None:
    submitted = requests(prompts(4), *[ResolvedDecoding(max_new_tokens=n) for n in (7, 2, 9, 1)])
    assert [c.index for c in cohort(llama, rows=4).generate(submitted)] == [3, 1, 0, 2]


@pytest.mark.parametrize(
    ("running", "order"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([1, 2], [2, 1]),
        ([0, 2, 3, 4], [0, 4, 2, 3]),
        ([3, 4], [4, 3]),
        ([0], [0]),
    ],
)
def test_free_slots_are_filled_by_the_last_rows(running: list[int], order: list[int]) -> None:
    assert compact_rows(running) == order


@pytest.mark.parametrize(
    ("lengths", "padding", "groups"),
    [
        ([9], 8, [(0, 1)]),
        ([9, 9, 9], 0, [(0, 3)]),
        ([9, 7, 3, 3], 2, [(0, 2), (2, 4)]),
        ([100, 60, 59, 20], 8, [(0, 1), (1, 3), (3, 4)]),
        ([3000, 2000, 2000], 10_000, [(0, 1), (1, 3)]),
        ([9000, 9000], 64, [(0, 1), (1, 2)]),
    ],
)
def test_prompts_share_a_prefill_while_padding_costs_less_than_another(
    lengths: list[int], padding: int, groups: list[tuple[int, int]]
) -> None:
    assert group_by_length(lengths, padding, 4096) == groups
