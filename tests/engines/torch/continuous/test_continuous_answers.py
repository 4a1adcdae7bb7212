"""Answers of continuous batching depend only on a row's prompt, settings and seed, not on the batch."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from batchgen.engines.torch.continuous.continuous_tier import BatchShape
from batchgen.engines.torch.continuous.forward.transformers_model import TransformersForward
from batchgen.engines.torch.continuous.kv_store import KVStore, KVStoreSizes, private_zeros
from batchgen.records import Completion, Request, ResolvedDecoding
from tests.engines.torch.continuous.tiny_continuous_tier import (
    CAPACITIES,
    WIDE,
    Capacity,
    own_forward,
    slots,
)
from tests.engines.torch.tiny_models import (
    alone,
    assert_recorded,
    break_token,
    by_row,
    cohort,
    engine,
    prompts,
    requests,
    spell,
    teacher_forced,
    tiny_model,
)

SYSTEM = [7, 30, 12, 55, 41, 8, 19, 90, 33, 21, 64, 13, 77, 50, 6, 28, 85, 42, 17, 39]
SOME = prompts()
MIXED = [SYSTEM + p if n % 2 else p for n, p in enumerate(SOME)]
"""Prompts of which two begin alike."""
PLAIN = ResolvedDecoding(max_new_tokens=10)


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return tiny_model("llama")


def answers(
    model: PreTrainedModel, submitted: Sequence[Request], capacity: Capacity = WIDE
) -> dict[int, Completion]:
    return by_row(slots(own_forward(model), capacity).generate(submitted))


def tokens(found: dict[int, Completion]) -> list[list[int]]:
    return [list(found[row].token_ids) for row in sorted(found)]


# Sampling.

SAMPLED = {
    "temperature": ResolvedDecoding(max_new_tokens=8, temperature=0.9),
    "top_k": ResolvedDecoding(max_new_tokens=8, temperature=1.5, top_k=5),
    "top_p": ResolvedDecoding(max_new_tokens=8, temperature=1.2, top_p=0.9),
    "min_p": ResolvedDecoding(max_new_tokens=8, temperature=2.0, min_p=0.05),
    "penalties": ResolvedDecoding(
        max_new_tokens=8, temperature=1.0, repetition_penalty=1.4, no_repeat_ngram_size=2
    ),
    "min_new_tokens": ResolvedDecoding(
        max_new_tokens=8, temperature=1.0, min_new_tokens=5, end_token_ids=frozenset(range(3, 60))
    ),
    "greedy": ResolvedDecoding(max_new_tokens=8),
}


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("name", SAMPLED)
def test_a_row_draws_the_text_of_the_static_tier_in_any_batch(
    llama: PreTrainedModel, name: str, capacity: str
) -> None:
    others = [one for other, one in SAMPLED.items() if other != name]
    submitted = requests(MIXED, SAMPLED[name], others[0], others[1])
    expected = by_row(cohort(llama, rows=5).generate(submitted))
    assert len({tuple(one.token_ids) for one in expected.values()}) == len(submitted)
    assert answers(llama, submitted, CAPACITIES[capacity]) == expected
    assert answers(llama, submitted[::-1], CAPACITIES[capacity]) == expected


def test_the_memory_limits_have_the_named_effects(llama: PreTrainedModel) -> None:
    facts = {}
    for name, capacity in CAPACITIES.items():
        tier = slots(own_forward(llama), capacity)
        list(tier.generate(requests(MIXED, PLAIN)))
        facts[name] = tier.facts()
    assert facts["one place"]["max_rows"] == 1
    assert facts["three places, nothing shared"]["prefixes"] == 0
    assert facts["all places, prompts in chunks"]["steps_prefill"] > 10  # type: ignore[operator]
    assert facts["too few pages"]["preempted"]
    assert facts["memory runs out"]["out_of_memory"] == 2
    assert facts["memory runs out"]["max_rows"] == 2
    assert facts["memory runs out at the logits"]["out_of_memory"] == 2
    assert facts["memory runs out at the logits"]["max_rows"] == 2
    assert facts["a window of two"]["steps_prefill"] == 3
    assert facts["a window of two"]["prefixes"] == 0
    assert facts["all places, prompts in chunks"]["prefixes"] == 1


def test_a_wrapped_family_draws_the_text_of_the_static_tier() -> None:
    model = tiny_model("gemma3_text")
    submitted = requests(MIXED, *SAMPLED.values())
    expected = by_row(cohort(model, rows=5).generate(submitted))
    for capacity in CAPACITIES.values():
        assert by_row(slots(TransformersForward(model), capacity).generate(submitted)) == expected


def test_samples_of_a_prompt_share_its_prefill_and_differ(llama: PreTrainedModel) -> None:
    prompt = prompts(7)[6]

    def ask(count: int) -> tuple[dict[int, Completion], int]:
        tier = slots(own_forward(llama))
        submitted = [Request(0, s, prompt, SAMPLED["top_p"], seed=s) for s in range(count)]
        return {one.sample: one for one in tier.generate(submitted)}, tier.facts()["tokens_prefill"]  # type: ignore[return-value]

    four, prefilled = ask(4)
    assert len({one.text for one in four.values()}) == 4
    # The prefix once, and the last token for each sample.
    assert prefilled == len(prompt) - 1 + 4
    (first,) = ask(1)[0].values()
    assert first == four[0]


CHI_SQUARE_999 = 24.32
"""The 0.999 quantile at 7 degrees of freedom (NIST/SEMATECH e-Handbook, table 1.3.6.7.4)."""


def test_frequencies_over_rows_match_the_distribution(llama: PreTrainedModel) -> None:
    prompt, rows = SOME[3], 3000
    decoding = ResolvedDecoding(max_new_tokens=1, temperature=3.0, top_k=8)
    capacity = Capacity(BatchShape(512, 4096), KVStoreSizes(1024, 4, 64))
    found = answers(llama, requests([prompt] * rows, decoding), capacity)
    drawn = torch.tensor([one.token_ids[0] for one in found.values()])
    with torch.inference_mode():
        logits = llama(torch.tensor([prompt])).logits[0, -1]
    likely = logits.topk(8).indices
    expected = (logits[likely] / 3.0).softmax(-1) * rows
    assert expected.min() > 5, "too rare for the test"
    observed = torch.bincount(drawn, minlength=len(logits))
    assert observed[likely].sum() == rows
    assert ((observed[likely] - expected) ** 2 / expected).sum() < CHI_SQUARE_999


# Greedy settings: `generate` on the row alone is the oracle.

GREEDY: dict[str, dict[str, Any]] = {
    "repetition_penalty": {"repetition_penalty": 1.5},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "both": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
}


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("name", GREEDY)
def test_penalties_are_those_of_generate(llama: PreTrainedModel, name: str, capacity: str) -> None:
    submitted = requests(MIXED, replace(PLAIN, **GREEDY[name]), PLAIN)
    expected = [
        alone(llama, r.token_ids, **({} if r.index % 2 else GREEDY[name]))[0] for r in submitted
    ]
    assert expected != [alone(llama, r.token_ids)[0] for r in submitted], "the setting must matter"
    assert tokens(answers(llama, submitted, CAPACITIES[capacity])) == expected


def test_min_new_tokens_is_that_of_generate(llama: PreTrainedModel) -> None:
    ends = list(range(3, 50))
    decoding = replace(PLAIN, min_new_tokens=4, end_token_ids=frozenset(ends))
    config = {"min_new_tokens": 4, "eos_token_id": ends}
    expected = [alone(llama, p, **config)[0] for p in MIXED]
    assert any(4 < len(answer) < 10 for answer in expected), "some answer must end by itself"
    for capacity in CAPACITIES.values():
        assert tokens(answers(llama, requests(MIXED, decoding), capacity)) == expected


def test_each_row_keeps_its_settings_in_one_run(llama: PreTrainedModel) -> None:
    submitted = requests(MIXED, *SAMPLED.values())
    together = answers(llama, submitted)
    for request in submitted:
        assert answers(llama, [request]) == {request.index: together[request.index]}


# Ends.


def test_end_tokens_stop_strings_and_limits(llama: PreTrainedModel) -> None:
    free = [alone(llama, p)[0] for p in MIXED]
    end, stop = free[0][4], spell(free[1][3:5])
    submitted = requests(
        MIXED,
        replace(PLAIN, end_token_ids=frozenset({end, 96})),
        replace(PLAIN, stop_strings=(stop,)),
        replace(PLAIN, max_new_tokens=1),
        replace(PLAIN, max_new_tokens=3),
        PLAIN,
    )
    for name, capacity in CAPACITIES.items():
        found = answers(llama, submitted, capacity)
        kept = free[0][: free[0].index(end) + 1]
        assert (list(found[0].token_ids), found[0].finish_reason) == (kept, "stop"), name
        assert found[0].text == spell(kept[:-1]), name
        cut = spell(free[1]).index(stop)
        assert (found[1].text, found[1].finish_reason) == (spell(free[1])[:cut], "stop_string")
        for row, limit in ((2, 1), (3, 3), (4, 10)):
            assert list(found[row].token_ids) == free[row][:limit], name
            assert found[row].finish_reason == "length", name


def test_prompts_of_one_token(llama: PreTrainedModel) -> None:
    submitted = requests([[5], [9], [5, 9]], replace(PLAIN, max_new_tokens=1), PLAIN)
    expected = [
        alone(llama, [5], max_new_tokens=1)[0],
        alone(llama, [9])[0],
        alone(llama, [5, 9], max_new_tokens=1)[0],
    ]
    for capacity in CAPACITIES.values():
        assert tokens(answers(llama, submitted, capacity)) == expected


def test_no_requests_no_answers(llama: PreTrainedModel) -> None:
    tier = slots(own_forward(llama))
    assert list(tier.generate([])) == []
    assert tier.facts()["steps_prefill"] == 0


def test_a_run_after_a_run_answers_the_same(llama: PreTrainedModel) -> None:
    tier = slots(own_forward(llama))
    submitted = requests(MIXED, *SAMPLED.values())
    assert by_row(tier.generate(submitted)) == by_row(tier.generate(submitted))


def test_rows_are_returned_as_they_finish(llama: PreTrainedModel) -> None:
    limits = [ResolvedDecoding(max_new_tokens=n) for n in (7, 2, 9, 1)]
    found = slots(own_forward(llama)).generate(requests(SOME[:4], *limits))
    assert [one.index for one in found] == [3, 1, 0, 2]


def test_requests_are_pulled_window_by_window(llama: PreTrainedModel) -> None:
    pulled: list[int] = []

    def stream() -> Iterator[Request]:
        for request in requests(SOME, replace(PLAIN, max_new_tokens=2)):
            pulled.append(request.index)
            yield request

    running = slots(own_forward(llama), Capacity(BatchShape(1, 512, window=2))).generate(stream())
    seen = [(done.index, len(pulled)) for done in running]
    # The longest prompt of a window starts first; the next request is read when it frees a slot.
    assert seen == [(1, 2), (0, 2), (2, 4), (3, 4), (4, 5)]


# Log-probabilities.


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_log_probabilities_are_those_of_teacher_forcing(capacity: str) -> None:
    model = tiny_model("llama", torch.float32)
    submitted = requests(
        MIXED,
        replace(SAMPLED["penalties"], logprobs=True, top_logprobs=3),
        PLAIN,
        replace(PLAIN, logprobs=True),
    )
    found = answers(model, submitted, CAPACITIES[capacity])
    for request in submitted:
        answer = found[request.index]
        if not request.decoding.logprobs:
            assert answer.logprob_mean is None
            continue
        expected = teacher_forced(model, request.token_ids, answer.token_ids)
        assert answer.logprob_mean == pytest.approx(expected, abs=1e-4)
        if request.decoding.top_logprobs is None:
            assert answer.token_logprobs is None
        else:
            assert_recorded(model, request.token_ids, answer)


# Duplicates.


def test_identical_greedy_requests_run_once(llama: PreTrainedModel) -> None:
    submitted = requests([SOME[0], SOME[1], SOME[0], SOME[0]], PLAIN)
    tier = slots(own_forward(llama))
    found = by_row(tier.generate(submitted))
    expected = [alone(llama, p)[0] for p in SOME[:2]]
    assert tokens(found) == [expected[0], expected[1], expected[0], expected[0]]
    facts = tier.facts()
    assert facts["duplicates"] == 2
    assert facts["tokens_prefill"] == len(SOME[0]) + len(SOME[1])
    assert facts["tokens_decode"] == 2 * 9


DIFFERENT = {
    "limit": replace(PLAIN, max_new_tokens=9),
    "stop string": replace(PLAIN, stop_strings=("x",)),
    "logprobs": replace(PLAIN, logprobs=True),
    "sampled": SAMPLED["temperature"],
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_requests_that_differ_in_a_setting_are_not_duplicates(
    llama: PreTrainedModel, name: str
) -> None:
    tier = slots(own_forward(llama))
    found = by_row(tier.generate(requests([SOME[0]] * 2, PLAIN, DIFFERENT[name])))
    assert sorted(found) == [0, 1]
    assert tier.facts()["duplicates"] == 0


def test_identical_sampled_requests_run_separately(llama: PreTrainedModel) -> None:
    tier = slots(own_forward(llama))
    found = by_row(tier.generate(requests([SOME[0]] * 3, SAMPLED["temperature"])))
    assert tier.facts()["duplicates"] == 0
    assert len({one.text for one in found.values()}) == 3


# Rows that fail.


def nan_free(store: KVStore) -> bool:
    return all(
        bool(tensor.isfinite().all())
        for layer in store.layers.values()
        for tensor in (layer.keys, layer.values)
    )


BAD = min(set(range(3, 97)) - {*SYSTEM, *(token for prompt in SOME for token in prompt)})
"""A token of no sound prompt, whose embedding is NaN in these tests."""


def broken(model: PreTrainedModel) -> PreTrainedModel:
    break_token(model, BAD)
    return model


WITH_NAN = {
    "in the middle": [*SOME[4], BAD, *SOME[2]],
    "behind a shared beginning": [*SYSTEM, BAD, 5],
    "alone": [BAD],
    "at the end": [*SOME[1], *[BAD] * 9],
}


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
@pytest.mark.parametrize("where", WITH_NAN)
def test_a_row_with_nan_fails_alone(family: str, where: str) -> None:
    submitted = requests([[*SYSTEM, *p] for p in SOME[:4]], PLAIN)
    submitted.insert(2, Request(9, 0, WITH_NAN[where], PLAIN, seed=0))
    expected = by_row(slots(TransformersForward(tiny_model(family))).generate(submitted))
    damaged = TransformersForward(broken(tiny_model(family)))
    for capacity in CAPACITIES.values():
        store = KVStore(capacity.sizes, private_zeros)
        found = by_row(slots(damaged, capacity, store=store).generate(submitted))
        failure = found.pop(9).failure
        assert failure is not None
        assert failure.code == "nonfinite_logits"
        for row, answer in found.items():
            assert BAD not in expected[row].token_ids
            assert answer == expected[row]
        assert nan_free(store), "its pages are clean for the next owner"


def test_rows_of_a_prefix_with_nan_fail_and_no_others(llama: PreTrainedModel) -> None:
    bad = [BAD, *SYSTEM]
    submitted = requests([[*bad, *SOME[0]], SOME[1], [*bad, *SOME[2]], SOME[3], [*bad, *SOME[4]]])
    expected = answers(llama, submitted)
    assert all(BAD not in one.token_ids for one in expected.values())
    capacity = Capacity(sizes=KVStoreSizes(64, 4, 16))
    tier = slots(own_forward(broken(tiny_model("llama"))), capacity)
    found = by_row(tier.generate(submitted))
    assert tier.facts()["prefixes"] == 1
    assert [found[row].finish_reason for row in (0, 2, 4)] == ["error"] * 3
    assert [found[row] for row in (1, 3)] == [expected[row] for row in (1, 3)]
    # The next prefix is stored at the same place.
    again = requests([[*SYSTEM, *p] for p in SOME])
    assert by_row(tier.generate(again)) == answers(llama, again)


def test_all_duplicates_of_a_row_with_nan_fail() -> None:
    model = broken(tiny_model("llama"))
    found = answers(model, requests([[BAD, 5], SOME[1], [BAD, 5]]))
    assert [found[row].finish_reason for row in range(3)] == ["error", "length", "error"]


def test_a_row_that_loses_its_step_leaves_no_nan() -> None:
    # The first forward writes NaN and is discarded. Then one row runs at a time, and the first grows into the other's page.
    model = broken(tiny_model("llama"))
    long, short = requests(
        [SOME[0] + SOME[3], [BAD, 5, 6]], replace(PLAIN, max_new_tokens=20), PLAIN
    )
    capacity = Capacity(BatchShape(2, 512), KVStoreSizes(16, 4, 0), lost=(0,))
    found = by_row(slots(own_forward(model), capacity).generate([long, short]))
    assert found[1].finish_reason == "error"
    assert found[0].finish_reason == "length"
    assert [list(found[0].token_ids)] == alone(model, long.token_ids, max_new_tokens=20)


@pytest.mark.parametrize("places", [1, 3, 8])
def test_a_row_that_never_fits_fails_and_the_others_continue(
    llama: PreTrainedModel, places: int
) -> None:
    capacity = Capacity(BatchShape(places, 512), KVStoreSizes(10, 4, 0))
    submitted = requests([SOME[0], SOME[1] * 20, SOME[3], SOME[0], SOME[4]], PLAIN)
    submitted[3] = replace(submitted[3], decoding=replace(PLAIN, max_new_tokens=500))
    found = answers(llama, submitted, capacity)
    for row in (1, 3):
        failure = found[row].failure
        assert failure is not None
        assert failure.code == "out_of_memory"
    for row in (0, 2, 4):
        assert [list(found[row].token_ids)] == alone(llama, submitted[row].token_ids)


@pytest.mark.parametrize("steps", [0, 1, 3, 5])
def test_a_stop_request_ends_the_run_at_a_step_without_partial_answers(
    llama: PreTrainedModel, steps: int
) -> None:
    asked_of = iter([False] * steps + [True] * 99)
    tier = slots(own_forward(llama), should_stop=lambda: next(asked_of))
    limits = [ResolvedDecoding(max_new_tokens=n) for n in (3, 9)]
    found = by_row(tier.generate(requests(SOME, *limits)))
    assert sorted(found) == ([0, 2, 4] if steps >= 3 else [])
    assert all(len(one.token_ids) == 3 for one in found.values())


# The engine as a run opens it.


def test_the_engine_selects_continuous_batching_and_answers_the_same() -> None:
    model = tiny_model("llama", torch.float32)
    submitted = requests(MIXED, *SAMPLED.values())
    opened = engine(model, max_rows=3)
    found = by_row(opened.generate(submitted))
    assert opened.facts()["tier"] == "continuous, own forward"
    assert found == by_row(cohort(model, rows=5).generate(submitted))
    opened.close()
