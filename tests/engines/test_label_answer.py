"""The label of a `choice`: the most likely one, or one sampled with the settings."""

import math
from collections import Counter
from typing import Any

import pytest

from batchgen.engines.label_answer import choose_label, label_answer, scored_tokens
from batchgen.records import AnswerGrammar, Failure, Likelihood, Request, ResolvedDecoding

THREE = AnswerGrammar("choice", '["in","inside","out"]')
TOKENS = ((1,), (1, 2), (3, 4))


def request(**settings: Any) -> Request:
    return Request(5, 1, [9], ResolvedDecoding(grammar=THREE, **settings), 7, None, TOKENS)


def likelihoods(*of_tokens: tuple[float, ...]) -> list[Likelihood]:
    return [
        Likelihood(n, tuple(math.log(one) if one else -math.inf for one in tokens))
        for n, tokens in enumerate(of_tokens)
    ]


def test_the_most_likely_label_is_the_answer() -> None:
    # A greedy choice of tokens would begin with token 1 (0.6), and then end in "inside" (0.36).
    found = label_answer(request(logprobs=True), likelihoods((0.6,), (0.6, 0.6), (0.4, 1.0)))
    assert (found.index, found.sample, found.text, found.finish_reason) == (5, 1, "out", "stop")
    assert list(found.token_ids) == [3, 4]
    assert found.logprob_mean == pytest.approx(math.log(0.4) / 2)
    assert found.label_logprobs is not None
    # "in" is what does not go on to "inside".
    assert [math.exp(one) for one in found.label_logprobs] == pytest.approx([0.24, 0.36, 0.4])


def test_a_label_counts_up_to_its_deciding_token() -> None:
    # Only "out" begins with token 3, so what follows that token decides nothing.
    found = label_answer(request(), likelihoods((0.2,), (0.2, 0.5), (0.4,)))
    assert found.text == "out"
    assert found.label_logprobs is not None
    assert [math.exp(one) for one in found.label_logprobs] == pytest.approx([0.1, 0.1, 0.4])
    assert list(map(list, scored_tokens(request()))) == [[1], [1, 2], [3]]
    assert scored_tokens(request(logprobs=True)) == TOKENS


def test_of_equal_labels_the_first_is_taken() -> None:
    assert choose_label([-2.0, -1.0, -1.0], ResolvedDecoding(), 0) == 1


def test_a_row_whose_labels_are_all_impossible_fails() -> None:
    found = label_answer(request(), likelihoods((0.0,), (0.0, 1.0), (0.0, 1.0)))
    assert found.failure is not None
    assert found.failure.code == "grammar_stuck"


def test_a_row_fails_with_one_of_its_labels() -> None:
    broken = Failure("nonfinite_logits", "x")
    good, _, last = likelihoods((0.5,), (0.5, 0.5), (0.1, 0.1))
    assert (
        label_answer(request(), [good, Likelihood(1, (), failure=broken), last]).failure == broken
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"temperature": 1.0}, (0.6, 0.3, 0.1)),
        ({"temperature": 0.5}, (0.36 / 0.46, 0.09 / 0.46, 0.01 / 0.46)),
        ({"temperature": 1.0, "top_k": 2}, (2 / 3, 1 / 3, 0)),
        ({"temperature": 1.0, "top_p": 0.6}, (1, 0, 0)),
        ({"temperature": 1.0, "top_p": 0.65}, (2 / 3, 1 / 3, 0)),
        ({"temperature": 1.0, "min_p": 0.45}, (2 / 3, 1 / 3, 0)),
        ({"temperature": 1.0, "top_k": 2, "top_p": 0.66}, (1, 0, 0)),
    ],
)
def test_sampled_labels_have_their_shares(
    settings: dict[str, Any], expected: tuple[float, ...]
) -> None:
    logprobs = [math.log(one) for one in (0.6, 0.3, 0.1)]
    decoding = ResolvedDecoding(**settings)
    counts = Counter(choose_label(logprobs, decoding, seed) for seed in range(4_000))
    assert [counts[n] / 4_000 for n in range(3)] == pytest.approx(expected, abs=0.03)
    assert all(counts[n] == 0 for n, share in enumerate(expected) if share == 0)


def test_an_impossible_label_is_never_sampled() -> None:
    logprobs = [-math.inf, -1.0, -math.inf]
    assert {choose_label(logprobs, ResolvedDecoding(temperature=1.0), n) for n in range(200)} == {1}
