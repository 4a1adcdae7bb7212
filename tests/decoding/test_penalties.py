"""Penalties of a batch equal transformers' processors on each of its rows alone, without padding."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from batchgen.decoding.penalties import History, Penalties
from batchgen.records import ResolvedDecoding

torch.set_num_threads(1)

VOCAB = 12
NONE = ResolvedDecoding()


def penalised(
    *, repetition: float = 1.0, ngram: int = 0, min_new: int = 0, ends: tuple[int, ...] = ()
) -> ResolvedDecoding:
    return ResolvedDecoding(
        repetition_penalty=repetition,
        no_repeat_ngram_size=ngram,
        min_new_tokens=min_new,
        end_token_ids=frozenset(ends),
    )


def reference(
    logits: Tensor, prompt: list[int], new: list[int], decoding: ResolvedDecoding
) -> Tensor:
    """Transformers' processors in the order of `_get_logits_processor`, on one row."""
    processors = LogitsProcessorList()
    if decoding.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty))
    if decoding.no_repeat_ngram_size:
        processors.append(NoRepeatNGramLogitsProcessor(decoding.no_repeat_ngram_size))
    if decoding.min_new_tokens and decoding.end_token_ids:
        processors.append(
            MinNewTokensLengthLogitsProcessor(
                len(prompt), decoding.min_new_tokens, sorted(decoding.end_token_ids)
            )
        )
    return processors(torch.LongTensor([prompt + new]), logits[None].clone())[0]


def random_logits(rows: int, vocab: int = VOCAB) -> Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(rows)) * 3


def history_of(prompts: list[list[int]], new: list[list[int]]) -> History:
    history = History.of(prompts)
    for step in zip(*new, strict=True):
        history.append(torch.tensor(step))
    return history


PROMPT = [1, 2, 3, 1, 2, 3, 4, 1, 2]

CASES = [
    pytest.param(NONE, PROMPT, [], id="no penalty"),
    pytest.param(penalised(repetition=1.3), PROMPT, [], id="repetition in the prompt"),
    pytest.param(penalised(repetition=1.3), PROMPT, [5, 5, 6], id="and in the answer"),
    pytest.param(penalised(repetition=0.5), PROMPT, [5], id="below 1 rewards"),
    pytest.param(penalised(repetition=10.0), [7], [7, 7], id="one token, often"),
    pytest.param(penalised(ngram=1), PROMPT, [5], id="no token twice"),
    pytest.param(penalised(ngram=2), PROMPT, [], id="2-grams"),
    pytest.param(penalised(ngram=3), PROMPT, [], id="3-grams"),
    pytest.param(penalised(ngram=3), PROMPT, [3, 1], id="3-grams over the border"),
    pytest.param(penalised(ngram=9), PROMPT, [], id="as long as the row"),
    pytest.param(penalised(ngram=10), PROMPT, [], id="longer than the row"),
    pytest.param(penalised(min_new=2, ends=(0, 5)), PROMPT, [], id="too early to end"),
    pytest.param(penalised(min_new=2, ends=(0, 5)), PROMPT, [7], id="one to go"),
    pytest.param(penalised(min_new=2, ends=(0, 5)), PROMPT, [7, 7], id="free to end"),
    pytest.param(penalised(min_new=2), PROMPT, [], id="no end token"),
    pytest.param(
        penalised(repetition=1.2, ngram=2, min_new=5, ends=(11,)), PROMPT, [11, 1], id="all"
    ),
    pytest.param(penalised(repetition=1.2, ngram=2), [40, 2, 40], [2], id="ids beyond the logits"),
    pytest.param(penalised(min_new=1, ends=(0, 40)), [1], [], id="end token beyond the logits"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("decoding", "prompt", "new"), CASES)
def test_a_row_equals_transformers(
    decoding: ResolvedDecoding, prompt: list[int], new: list[int], dtype: torch.dtype
) -> None:
    logits = random_logits(1).to(dtype)
    history = history_of([prompt], [new])
    changed = Penalties.of([decoding]).apply(logits, history)
    assert torch.equal(changed[0], reference(logits[0], prompt, new, decoding))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_batch_equals_its_rows(data: st.DataObject) -> None:
    rows, steps = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 80))
    dice = random.Random(data.draw(st.integers(0, 2**32)))

    def tokens(count: int) -> list[int]:
        return [dice.randrange(VOCAB) for _ in range(count)]

    prompts = [tokens(dice.randrange(1, 15)) for _ in range(rows)]
    new = [tokens(steps) for _ in range(rows)]
    row_settings = [
        penalised(
            repetition=dice.choice([1.0, 1.1, 2.0, 0.7]),
            ngram=dice.choice([0, 1, 2, 3, 7]),
            min_new=dice.choice([0, steps, steps + 1]),
            ends=tuple(tokens(dice.randrange(0, 3))),
        )
        for _ in range(rows)
    ]
    history, penalties, logits = (
        history_of(prompts, new),
        Penalties.of(row_settings),
        random_logits(rows),
    )
    kept = dice.sample(range(rows), dice.randrange(1, rows + 1))
    index = torch.tensor(kept)
    changed = penalties.select(index).apply(logits[index], history.select(index))
    for at, row in enumerate(kept):
        expected = reference(logits[row], prompts[row], new[row], row_settings[row])
        assert torch.equal(changed[at], expected)


def test_rows_of_unequal_length_continue_after_rows_were_dropped() -> None:
    prompts = [[1, 2, 3], [4], [5, 6, 5, 6, 5]]
    history = history_of(prompts, [[7], [4], [6]]).select(torch.tensor([2, 1]))
    history.append(torch.tensor([5, 9]))
    decoding = penalised(repetition=1.5, ngram=2)
    logits = random_logits(2)
    changed = Penalties.of([decoding] * 2).apply(logits, history)
    assert torch.equal(changed[0], reference(logits[0], prompts[2], [6, 5], decoding))
    assert torch.equal(changed[1], reference(logits[1], prompts[1], [4, 9], decoding))


def test_without_penalties_the_same_logits_are_returned() -> None:
    logits = random_logits(2)
    penalties = Penalties.of([NONE, penalised(min_new=9)])
    assert not penalties.active
    assert penalties.apply(logits, History.of([[1], [2]])) is logits


@pytest.mark.parametrize("decoding", [case.values[0] for case in CASES])
def test_logits_are_not_modified(decoding: ResolvedDecoding) -> None:
    logits = random_logits(1)
    before = logits.clone()
    Penalties.of([decoding]).apply(logits, History.of([PROMPT]))
    assert torch.equal(logits, before)


def test_half_precision_is_widened_before_the_computation() -> None:
    logits = random_logits(1).bfloat16()
    decoding = penalised(repetition=1.1)
    changed = Penalties.of([decoding]).apply(logits, History.of([PROMPT]))
    assert changed.dtype == torch.float32
    assert torch.equal(changed[0], reference(logits[0].float(), PROMPT, [], decoding))


def test_blocking_all_repeats_can_leave_no_token() -> None:
    logits = random_logits(1, vocab=3)
    changed = Penalties.of([penalised(ngram=1)]).apply(logits, History.of([[0, 1, 2]]))
    assert changed.tolist() == [[-math.inf] * 3]
