"""Sorted `generate`: its answers are as long as those of `generate` on each row alone."""

from collections.abc import Sequence

import pytest

from batchgen.engines.torch.generate.baseline import answer_length, sorted_generate
from batchgen.records import ResolvedDecoding
from tests.engines.torch.tiny_models import alone, loaded, prompts, requests, tiny_model

ENDS = frozenset(range(3, 12))
"""So many end tokens that random answers end at different places."""


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_answers_are_as_long_as_alone(family: str) -> None:
    model = tiny_model(family)
    decodings = [ResolvedDecoding(max_new_tokens=n, end_token_ids=ENDS) for n in (12, 3, 9)]
    submitted = requests(prompts(8), *decodings)
    expected = []
    for one in submitted:
        most = one.decoding.max_new_tokens
        (tokens,) = alone(model, one.token_ids, max_new_tokens=most, eos_token_id=sorted(ENDS))
        expected.append(len(tokens))
    assert len(set(expected)) > 2
    assert sorted_generate(loaded(model), submitted, None) == expected


def test_requests_with_different_settings_are_not_batched_together() -> None:
    model = tiny_model("llama")
    submitted = requests(
        prompts(4),
        ResolvedDecoding(max_new_tokens=4),
        ResolvedDecoding(max_new_tokens=6, temperature=0.8, top_k=5, top_p=0.9, min_p=0.1),
        ResolvedDecoding(max_new_tokens=5, num_beams=2),
    )
    assert sorted_generate(loaded(model), submitted, None) == [4, 6, 5, 4]


@pytest.mark.parametrize(
    ("tokens", "length"),
    [
        pytest.param([5, 6, 7, 8], 3, id="the limit"),
        pytest.param([5, 2, 2, 2], 2, id="an end token, and padding behind it"),
        pytest.param([2], 1, id="an end token at once"),
        pytest.param([5, 6], 2, id="a stop string"),
    ],
)
def test_ends_of_answers(tokens: Sequence[int], length: int) -> None:
    decoding = ResolvedDecoding(max_new_tokens=3, end_token_ids=frozenset({2}))
    assert answer_length(tokens, decoding) == length
