"""The next turn of a conversation begins with the keys and values of the one before, and has the answer that it has without them."""

from collections import deque
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, PreTrainedModel

from batchgen.engines.pulled import Pulled
from batchgen.engines.torch.continuous.continuous_tier import BatchShape, ContinuousTier
from batchgen.engines.torch.continuous.forward.transformers_model import TransformersForward
from batchgen.engines.torch.continuous.kv_store import KVStoreSizes
from batchgen.records import Completion, Request, ResolvedDecoding
from tests.engines.torch.continuous.tiny_continuous_tier import (
    WIDE,
    Capacity,
    own_forward,
    slots,
)
from tests.engines.torch.tiny_models import prompts, tiny_model

SYSTEM = prompts(7, seed=1)[6][:20]
QUESTIONS = [prompts(8, seed=seed) for seed in (2, 3, 4)]
"""Of three turns, those of eight conversations."""
GREEDY = ResolvedDecoding(max_new_tokens=6, logprobs=True)
UNSHARED = replace(WIDE, shape=BatchShape(8, 512, share_prefixes=False))
SAMPLED = ResolvedDecoding(max_new_tokens=7, temperature=0.9, top_p=0.9, logprobs=True)


class Talks:
    """Conversations of three turns: row 10 n + t is turn t of conversation n, whose first prompt may begin with `SYSTEM`.

    The template repeats an answer as it is, or changes its token at `changed`.
    """

    def __init__(self, *, linked: bool = True, changed: int | None = None) -> None:
        self.answers: dict[tuple[int, int], Completion] = {}
        self.prompts: dict[tuple[int, int], list[int]] = {}
        self._linked = linked
        self._changed = changed
        self._next: deque[Request] = deque()
        for number, question in enumerate(QUESTIONS[0]):
            start = [*SYSTEM, *question] if number % 2 else question
            decoding = GREEDY if number % 3 else SAMPLED
            samples = 1 if decoding.greedy else 2
            for sample in range(samples):
                self._ask(Request(10 * number, sample, start, decoding, 100 * number + sample))

    def run(self, tier: ContinuousTier) -> dict[tuple[int, int], Completion]:
        for answer in tier.generate(Pulled(self.pull)):
            self.add(answer)
        assert len(self.answers) == (8 + 3) * 3
        return self.answers

    def add(self, answer: Completion) -> None:
        index, sample = answer.index, answer.sample
        self.answers[index, sample] = answer
        number, turn = divmod(index + 1, 10)
        if turn == len(QUESTIONS):
            return
        said = list(answer.token_ids)
        if self._changed is not None:
            said[self._changed] = 3 + said[self._changed] % 5
        token_ids = [*self.prompts[index, sample], *said, *QUESTIONS[turn][number]]
        decoding = GREEDY if number % 3 else SAMPLED
        self._ask(Request(index + 1, sample, token_ids, decoding, 1000 * turn + sample))

    def _ask(self, request: Request) -> None:
        self.prompts[request.index, request.sample] = list(request.token_ids)
        turn = request.index % 10
        if self._linked:
            follows = request.index - 1 if turn else None
            request = replace(request, follows=follows, is_followed=turn + 1 < len(QUESTIONS))
        self._next.append(request)

    def pull(self) -> Request | None:
        return self._next.popleft() if self._next else None


def by_generate(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    """New tokens of `generate`, with a mask: an answer may have the token that pads."""
    untyped: Any = model
    ids, config = torch.tensor([prompt]), GenerationConfig(max_new_tokens=6, pad_token_id=0)
    made = untyped.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    new: list[int] = made[0, len(prompt) :].tolist()
    return new


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return tiny_model("llama", torch.float32)


@pytest.fixture(scope="module")
def unlinked(llama: PreTrainedModel) -> dict[tuple[int, int], Completion]:
    return Talks(linked=False).run(slots(own_forward(llama)))


def test_answers_have_the_same_bits_and_fewer_tokens_are_computed(
    llama: PreTrainedModel, unlinked: dict[tuple[int, int], Completion]
) -> None:
    tiers = [slots(own_forward(llama), UNSHARED) for _ in range(2)]
    talks = Talks()
    assert talks.run(tiers[0]) == unlinked
    Talks(linked=False).run(tiers[1])
    kept, without = (tier.facts() for tier in tiers)
    assert kept["continued"] == 2 * (8 + 3)
    assert without["continued"] == 0
    earlier = [key for key in talks.prompts if key[0] % 10 < 2]
    known = sum(len(talks.prompts[key]) + len(unlinked[key].token_ids) - 1 for key in earlier)
    assert kept["continued_tokens"] == known
    assert without["tokens_prefill"] - kept["tokens_prefill"] == known  # type: ignore[operator]
    assert without["tokens_decode"] == kept["tokens_decode"]


def test_a_shared_prefix_stays_shared_by_the_next_turns(
    llama: PreTrainedModel, unlinked: dict[tuple[int, int], Completion]
) -> None:
    tier, other = slots(own_forward(llama)), slots(own_forward(llama), UNSHARED)
    assert Talks().run(tier) == Talks().run(other) == unlinked
    assert tier.facts()["continued"] == 2 * (8 + 3)
    assert tier.facts()["prefixes"]
    assert tier.facts()["tokens_prefill"] < other.facts()["tokens_prefill"]  # type: ignore[operator]


def test_each_turn_has_the_tokens_of_generate() -> None:
    model = tiny_model("llama")
    talks = Talks()
    found = talks.run(slots(own_forward(model)))
    greedy = [key for key in found if key[0] // 10 % 3]
    assert len(greedy) == 15
    for key in greedy:
        assert list(found[key].token_ids) == by_generate(model, talks.prompts[key])


@settings(max_examples=8, deadline=None)
@given(
    rows=st.integers(1, 12),
    step_tokens=st.integers(7, 90),
    pages=st.integers(9, 40),
    arena=st.sampled_from([0, 24, 64]),
    lost=st.sets(st.integers(0, 40), max_size=2),
    fits=st.booleans(),
)
def test_answers_are_the_same_when_what_is_kept_is_dropped(
    llama: PreTrainedModel,
    unlinked: dict[tuple[int, int], Completion],
    rows: int,
    step_tokens: int,
    pages: int,
    arena: int,
    lost: set[int],
    fits: bool,
) -> None:
    capacity = Capacity(
        BatchShape(rows, step_tokens),
        KVStoreSizes(pages, 16, arena),
        lost,
        expected=(lambda limit: limit) if fits else (lambda _limit: 0),
    )
    assert Talks().run(slots(own_forward(llama), capacity)) == unlinked


@pytest.mark.parametrize("changed", [0, 3, -1])
def test_what_the_template_writes_differently_is_computed_again(
    llama: PreTrainedModel, changed: int
) -> None:
    expected = Talks(linked=False, changed=changed).run(slots(own_forward(llama)))
    tier = slots(own_forward(llama))
    assert Talks(changed=changed).run(tier) == expected
    assert tier.facts()["continued"]


def test_a_family_whose_attention_has_a_window_continues_too() -> None:
    model = tiny_model("gemma3_text")
    tier = slots(TransformersForward(model))
    talks = Talks()
    found = talks.run(tier)
    assert tier.facts()["continued"] == 2 * (8 + 3)
    for key in [key for key in found if key[0] // 10 % 3]:
        assert list(found[key].token_ids) == by_generate(model, talks.prompts[key])


@pytest.mark.parametrize("cuts", [16, 32])
def test_where_answers_begin_again_only_whole_pieces_of_the_prompt_are_kept(cuts: int) -> None:
    forward = own_forward(tiny_model("llama", torch.bfloat16))
    shape = BatchShape(8, 64, cuts=cuts, share_prefixes=False)
    tier = slots(forward, replace(WIDE, shape=shape))
    linked = Talks()
    found = linked.run(tier)
    assert found == Talks(linked=False).run(slots(forward, replace(WIDE, shape=shape)))
    earlier = [key for key in linked.prompts if key[0] % 10 < 2]
    whole = sum(len(linked.prompts[key]) // cuts * cuts for key in earlier)
    assert tier.facts()["continued_tokens"] == whole > 0


def test_turns_of_equal_conversations_run_once(llama: PreTrainedModel) -> None:
    tier = slots(own_forward(llama))
    first = prompts()[1]
    asked: deque[Request] = deque(
        Request(10 * n, 0, first, GREEDY, 0, is_followed=True) for n in range(3)
    )
    found = {}
    for answer in tier.generate(Pulled(lambda: asked.popleft() if asked else None)):
        found[answer.index] = answer.token_ids
        if answer.index % 10 == 0:
            question = [5, 6] if answer.index < 20 else [8, 9]
            token_ids = [*first, *answer.token_ids, *question]
            asked.append(Request(answer.index + 1, 0, token_ids, GREEDY, 0, follows=answer.index))
    assert tier.facts()["duplicates"] == 2 + 1
    assert found[1] == found[11] != found[21]
    assert tier.facts()["continued"] == 1


def test_a_row_that_nothing_follows_after_all_waits_for_no_one(llama: PreTrainedModel) -> None:
    asked = [Request(n, 0, ids, GREEDY, 0, is_followed=True) for n, ids in enumerate(prompts(8))]
    tier = slots(own_forward(llama), Capacity(BatchShape(2, 64, window=3)))
    answers = {one.index: one for one in tier.generate(iter(asked))}
    assert sorted(answers) == list(range(8))


def test_nothing_is_kept_after_a_stop(
    llama: PreTrainedModel, unlinked: dict[tuple[int, int], Completion]
) -> None:
    tier = slots(own_forward(llama))
    begun = Talks()
    answers = tier.generate(Pulled(begun.pull))
    for one in islice(answers, 5):
        begun.add(one)
    del answers  # the caller stops
    assert tier._scheduler.pages.free == WIDE.sizes.pages
    assert Talks().run(tier) == unlinked
