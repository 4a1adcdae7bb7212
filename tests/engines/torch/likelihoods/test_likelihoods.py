"""Likelihoods of given continuations: equal to the model's own forward over that row alone, in any batch.

Weights are random and in float64, so that rounding hides nothing, though the models' own norms are in float32; `test_demo_model_answers.py` has real ones in float32.
"""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from batchgen.engines.torch.continuous.forward.transformers_model import TransformersForward
from batchgen.engines.torch.likelihoods.branches import ContextReader, group_by_context
from batchgen.engines.torch.likelihoods.by_forward import ForwardLikelihoods
from batchgen.records import Continuation, Likelihood
from tests.engines.torch.continuous.tiny_continuous_tier import (
    CAPACITIES,
    WIDE,
    Capacity,
    own_forward,
    slot_likelihoods,
)
from tests.engines.torch.tiny_models import (
    FAMILIES,
    VOCABULARY,
    break_token,
    engine,
    forced_table,
    loaded,
    prompts,
    requests,
    tiny_model,
)

ENDINGS = ([5], [40, 41], [5, 9, 60, 61, 62], [5, 9, 60], [90], list(range(20, 44)))
"""Continuations: of one token, of several, one that begins another one, a long one."""


def given() -> list[Continuation]:
    """Each ending after each context, some with a common prefix; and one context that extends another."""
    contexts = prompts(6)
    contexts += [contexts[1] + [7, 7], contexts[1] + [8], [3]]
    found = [(context, ending) for context in contexts for ending in ENDINGS]
    found += [(contexts[1], contexts[0]), (contexts[1][:20], contexts[1][20:])]
    return [Continuation(index, *one) for index, one in enumerate(found)]


def by_index(found: Iterable[Likelihood]) -> dict[int, Likelihood]:
    all_ = list(found)
    result = {one.index: one for one in all_}
    assert len(result) == len(all_), "a continuation was answered twice"
    return result


def check(
    model: PreTrainedModel, submitted: Sequence[Continuation], found: dict[int, Likelihood]
) -> None:
    assert sorted(found) == sorted(one.index for one in submitted)
    for one in submitted:
        table = forced_table(model, one.context, one.token_ids)
        expected = [float(row[token]) for row, token in zip(table, one.token_ids, strict=True)]
        assert found[one.index].failure is None
        assert found[one.index].logprobs == pytest.approx(expected, abs=1e-5, rel=0)
        assert found[one.index].greedy == (table.argmax(-1).tolist() == list(one.token_ids))


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return tiny_model("llama")


@pytest.mark.parametrize("family", FAMILIES)
def test_likelihoods_equal_one_forward_over_each_row(family: str) -> None:
    model = tiny_model(family)
    submitted = given()
    check(model, submitted, by_index(engine(model).likelihoods(submitted)))


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_neither_memory_nor_order_changes_a_likelihood(
    llama: PreTrainedModel, capacity: str
) -> None:
    submitted = given()
    alone = slot_likelihoods(own_forward(llama), CAPACITIES["one place"])
    expected = by_index(chain.from_iterable(alone.likelihoods([one]) for one in submitted))
    check(llama, submitted, expected)
    for ordered in (
        submitted,
        submitted[::-1],
        sorted(submitted, key=lambda one: list(one.token_ids)),
    ):
        found = by_index(
            slot_likelihoods(own_forward(llama), CAPACITIES[capacity]).likelihoods(ordered)
        )
        assert sorted(found) == sorted(expected)
        for index, one in expected.items():
            assert found[index].logprobs == pytest.approx(one.logprobs, abs=1e-9, rel=0)
            assert found[index].greedy == one.greedy


@pytest.mark.parametrize("capacity", ["memory runs out", "memory runs out at the logits"])
def test_steps_that_ran_out_of_memory_are_recomputed(llama: PreTrainedModel, capacity: str) -> None:
    submitted = given()
    tier = slot_likelihoods(own_forward(llama), CAPACITIES[capacity])
    check(llama, submitted, by_index(tier.likelihoods(submitted)))
    assert tier.facts()["out_of_memory"] == 2


def test_a_wrapped_family_gives_the_same_likelihoods_in_chunks() -> None:
    model = tiny_model("gemma3_text")
    submitted = given()
    capacity = CAPACITIES["all places, prompts in chunks"]
    check(
        model,
        submitted,
        by_index(slot_likelihoods(TransformersForward(model), capacity).likelihoods(submitted)),
    )


def test_the_most_likely_answer_is_greedy(llama: PreTrainedModel) -> None:
    answers = engine(llama).generate(requests(prompts()))
    submitted = [Continuation(a.index, prompts()[a.index], a.token_ids) for a in answers]
    changed = [Continuation(9, submitted[0].context, [*submitted[0].token_ids[:-1], 0])]
    for tier in (engine(llama), ForwardLikelihoods(loaded(llama), lambda: False, window=9)):
        found = by_index(tier.likelihoods(submitted + changed))
        assert [found[index].greedy for index in sorted(found)] == [True] * 5 + [False]


def test_a_context_is_computed_once_for_all_its_continuations(llama: PreTrainedModel) -> None:
    context = prompts(7)[6]

    def computed(endings: Sequence[Sequence[int]]) -> object:
        tier = slot_likelihoods(own_forward(llama))
        submitted = [Continuation(index, context, ending) for index, ending in enumerate(endings)]
        check(llama, submitted, by_index(tier.likelihoods(submitted)))
        return tier.facts()["tokens_prefill"]

    assert computed([[5], [6], [7], [8]]) == len(context)
    assert computed([[5, 6, 7], [5, 6, 8], [9, 1], [8]]) == len(context) + 2 + 2 + 1
    assert computed([[5, 6], [5, 6]]) == len(context) + 1


def test_the_continuations_of_a_context_are_in_one_window(llama: PreTrainedModel) -> None:
    contexts = [[30 + n, 60 + n, 61 + n] for n in range(8)]
    shape = replace(WIDE.shape, window=3)
    tier = slot_likelihoods(own_forward(llama), replace(WIDE, shape=shape))
    each = [(one, [ending]) for one in contexts for ending in range(40, 47)]
    submitted = [Continuation(index, *one) for index, one in enumerate(each)]
    check(llama, submitted, by_index(tier.likelihoods(submitted)))
    assert tier.facts()["tokens_prefill"] == 8 * 3


def test_shared_prefixes_of_contexts_are_computed_once(llama: PreTrainedModel) -> None:
    rubric = list(range(20, 50))
    contexts = [[*rubric, 60 + n, 61 + n] for n in range(8)]
    tier = slot_likelihoods(own_forward(llama))
    submitted = [Continuation(n, c, e) for n, c in enumerate(contexts) for e in ([5, 6], [7])]
    submitted = [Continuation(n, one.context, one.token_ids) for n, one in enumerate(submitted)]
    check(llama, submitted, by_index(tier.likelihoods(submitted)))
    assert tier.facts()["tokens_prefill"] == len(rubric) + 8 * (2 + 1)


def test_logits_of_a_step_are_bounded(llama: PreTrainedModel) -> None:
    widest = 0
    forward = own_forward(llama)

    def watched(batch: Any, store: Any) -> Any:
        nonlocal widest
        widest = max(widest, len(batch.drawn))
        return forward(batch, store)

    submitted = given()
    check(llama, submitted, by_index(slot_likelihoods(watched, WIDE).likelihoods(submitted)))
    assert widest == WIDE.shape.rows


BROKEN = 66


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_a_continuation_with_nonfinite_logits_fails_alone(family: str) -> None:
    model = tiny_model(family)
    tier = engine(model)
    break_token(model, BROKEN)
    whole = [one for one in given() if BROKEN not in (*one.context, *one.token_ids)]
    assert len(whole) > 20
    bad = [
        Continuation(100, whole[0].context, [5, BROKEN, 9]),
        Continuation(101, [4, BROKEN, 6], [7]),
    ]
    # Tokens after the NaN do not depend on it here, so this continuation succeeds.
    last = Continuation(102, whole[0].context, [5, 9, BROKEN])
    found = by_index(tier.likelihoods([*bad, *whole, last]))
    for one in bad:
        failure = found.pop(one.index).failure
        assert failure is not None
        assert failure.code == "nonfinite_logits"
    check(model, [*whole, last], found)


def test_a_continuation_that_does_not_fit_fails_alone(llama: PreTrainedModel) -> None:
    whole = given()
    long = Continuation(100, [5] * 30, [6] * 40)
    capacity = Capacity(sizes=CAPACITIES["too few pages"].sizes)
    found = by_index(slot_likelihoods(own_forward(llama), capacity).likelihoods([*whole, long]))
    failure = found.pop(100).failure
    assert failure is not None
    assert failure.code == "out_of_memory"
    check(llama, whole, found)


def test_running_out_of_memory_in_a_batch_fails_only_rows_that_fail_alone() -> None:
    model = tiny_model("llama")
    submitted = [Continuation(n, [5, 6, 7 + n], [9, 10]) for n in range(5)]
    untyped: Any = model
    own = untyped.forward

    def forward(input_ids: Any, **more: Any) -> Any:
        if len(input_ids) > 2 or 8 in input_ids:
            raise torch.OutOfMemoryError
        return own(input_ids=input_ids, **more)

    forward.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
    untyped.forward = forward
    tier = ForwardLikelihoods(loaded(model), lambda: False, window=9)
    found = by_index(tier.likelihoods(submitted))
    untyped.forward = own
    failure = found.pop(1).failure
    assert failure is not None
    assert failure.code == "out_of_memory"
    check(model, [submitted[0], *submitted[2:]], found)


@pytest.mark.parametrize("submitted", [([5, VOCABULARY], [5]), ([5], [5, VOCABULARY])])
def test_a_token_outside_the_vocabulary_fails_alone(
    llama: PreTrainedModel, submitted: tuple[list[int], list[int]]
) -> None:
    rows = [Continuation(0, *submitted), Continuation(1, [5], [6])]
    found = {one.index: one for one in engine(llama).likelihoods(rows)}
    assert found[1].failure is None
    failure = found[0].failure
    assert failure is not None
    assert (failure.code, str(VOCABULARY) in failure.message) == ("unknown_token", True)


def test_a_token_with_logit_minus_infinity_has_probability_zero() -> None:
    (branch,) = group_by_context([Continuation(0, [1], [2, 0])])[1,]
    reader = ContextReader()
    reader.expect([branch], 0)
    reader.expect([branch], 1)
    reader.read_logits(torch.tensor([[0.0, -torch.inf, 0.0], [-torch.inf, 1.0, 1.0]]))
    (found,) = branch.likelihoods()
    assert found.logprobs[0] == pytest.approx(-0.6931471805599453, abs=1e-15)
    assert found.logprobs[1] == -torch.inf
    assert not found.greedy
    assert found.total == -torch.inf
