"""The utilization that an engine reports, compared with counts from requests and completions."""

from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from batchgen.engines.pulled import Pulled
from batchgen.engines.torch.utilization.flops import model_flops
from batchgen.planning.required_flops import AnsweredRequest, measure_useful_work
from batchgen.records import ResolvedDecoding
from tests.engines.torch.tiny_models import by_row, engine, prompts, requests, tiny_model

SIX = ResolvedDecoding(max_new_tokens=6)


def sum_of(lengths: list[int], new: int) -> int:
    """Tokens through the layers without waste: the last new one is never an input."""
    return sum(length + new - 1 for length in lengths)


@pytest.mark.parametrize("family", ["llama", "gpt2", "lfm2"])
def test_without_waste_all_tokens_are_useful(family: str) -> None:
    """One row at a time on each tier: packed forward, model's forward, static."""
    model = tiny_model(family)
    answers = engine(model, max_rows=1)
    submitted = requests(prompts(3), SIX)
    list(answers.generate(submitted))
    facts: Any = answers.facts()
    assert facts["useful_tokens"] == sum_of([len(r.token_ids) for r in submitted], 6)
    assert facts["computed_tokens"] == facts["useful_tokens"]
    assert facts["useful_token_share"] == 1.0
    assert 0 < facts["mfu"] < 1


def test_padding_and_repeated_tokens_are_not_useful() -> None:
    """Each beam is computed at each step, and only one answer is returned."""
    answers = engine(tiny_model("llama"), max_rows=4)
    submitted = requests(prompts(1), ResolvedDecoding(max_new_tokens=6, num_beams=3))
    list(answers.generate(submitted))
    facts: Any = answers.facts()
    assert facts["useful_tokens"] == sum_of([len(submitted[0].token_ids)], 6)
    assert facts["useful_token_share"] < 0.7


def test_prefixes_and_answers_are_counted_per_window() -> None:
    model = tiny_model("llama")
    answers = engine(model, part_rows=2)
    same = [1 + n % 90 for n in range(40)]
    submitted = requests([[*same, 5], [*same, 6, 7], [*same, 8], [*same, 9]], SIX)
    found = by_row(answers.generate(submitted))
    costs = model_flops(model)
    assert costs is not None
    answered = [AnsweredRequest(r, len(found[r.index].token_ids)) for r in submitted]
    both = measure_useful_work(answered[:2], costs) + measure_useful_work(answered[2:], costs)
    facts: Any = answers.facts()
    assert facts["useful_tokens"] == both.tokens == 2 * 40 + 5 + 4 * 5
    assert facts["useful_flop"] == both.flops


def test_without_waste_all_tokens_of_conversations_are_useful() -> None:
    """The next turns are in windows of their own, and compute only what the turns before them have not."""
    answers = engine(tiny_model("llama"), max_rows=2, part_rows=2)
    submitted = requests(prompts(3), SIX)
    asked = deque(replace(one, index=2 * one.index, is_followed=True) for one in submitted)
    known = 0
    for answer in answers.generate(Pulled(lambda: asked.popleft() if asked else None)):
        if answer.index % 2 == 0:
            before = submitted[answer.index // 2]
            ids = [*before.token_ids, *answer.token_ids, 5, 6, 7]
            known += len(before.token_ids) + 5
            index = answer.index + 1
            asked.append(replace(before, index=index, token_ids=ids, follows=answer.index))
    facts: Any = answers.facts()
    assert facts["continued_tokens"] == known
    lengths = [len(one.token_ids) for one in submitted]
    assert facts["useful_tokens"] == sum_of(lengths, 6) + 3 * (1 + 3 + 5)
    assert facts["computed_tokens"] == facts["useful_tokens"]


def test_unanswered_requests_are_not_counted() -> None:
    """The second row fails, the third is abandoned."""
    answers = engine(tiny_model("llama"), max_rows=1, max_tokens=64)
    long = list(range(3, 90))
    submitted = requests([[4, 5, 6], long, [7, 8]], SIX)
    stream: Any = answers.generate(submitted)
    first = [next(stream), next(stream)]
    stream.close()
    facts: Any = answers.facts()
    lengths = [len(submitted[one.index].token_ids) for one in first if one.failure is None]
    assert facts["useful_tokens"] == sum_of(lengths, 6)
    assert len(lengths) == 1


def test_a_model_with_an_encoder_reports_no_utilization() -> None:
    answers = engine(tiny_model("t5"))
    list(answers.generate(requests(prompts(2), SIX)))
    assert "mfu" not in answers.facts()
