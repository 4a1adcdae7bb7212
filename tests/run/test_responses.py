"""From completions to responses: reasoning, redaction, seeds, failures."""

from array import array
from dataclasses import replace
from typing import Literal

import pytest

from batchgen.privacy.recognizers import PII_KINDS
from batchgen.privacy.redact import Redactor, placeholder
from batchgen.records import Completion, Failure, Message, ResolvedDecoding, TokenLogprobs
from batchgen.run.requests import PendingRow
from batchgen.run.responses import ResponseBuilder

ROW = PendingRow(
    index=4,
    id="four",
    messages=(Message("user", "?"),),
    token_ids=[1, 2, 3],
    decoding=ResolvedDecoding(),
    prompt_hash="prompt",
    row_fingerprint="row",
    seeds=(10, 11),
    prompt=None,
)
TEXT = "<think>ask a@example.com or b@example.com</think>Write to c@example.com."
TOKENS = ["<think>", "a@", "example.com", "</think>", "b@", "x", " y"]
"""The text of each token id."""
FAILURE = Failure("prompt_empty", "the prompt is empty", "skipped")
Reasoning = Literal["inline", "drop", "column"]


def builder(reasoning: Reasoning = "column", *, seeds: bool = True) -> ResponseBuilder:
    redactor = Redactor(PII_KINDS, placeholder)
    return ResponseBuilder(
        reasoning,
        reasoning_opened=False,
        redactor=redactor,
        seeds=seeds,
        token_text=TOKENS.__getitem__,
    )


@pytest.mark.parametrize(
    ("reasoning", "response", "thought", "emails"),
    [
        ("column", "Write to [EMAIL].", "ask [EMAIL] or [EMAIL]", 3),
        ("drop", "Write to [EMAIL].", None, 1),
        ("inline", "<think>ask [EMAIL] or [EMAIL]</think>Write to [EMAIL].", None, 3),
    ],
)
def test_reasoning_is_split_off_before_redaction(
    reasoning: Reasoning, response: str, thought: str | None, emails: int
) -> None:
    completion = Completion(4, 1, [5, 6], TEXT, "stop", logprob_mean=-0.5)
    made = builder(reasoning).build_response(ROW, completion)
    assert (made.response, made.reasoning) == (response, thought)
    assert dict(made.redacted) == {"email": emails}
    assert (made.index, made.id, made.sample, made.seed) == (4, "four", 1, 11)
    assert (made.input_tokens, made.output_tokens, made.logprob_mean) == (3, 2, -0.5)
    assert (made.prompt_hash, made.row_fingerprint) == ("prompt", "row")
    assert made.messages == ROW.messages


@pytest.mark.parametrize(
    ("reasoning", "token_ids", "withheld"),
    [
        pytest.param("column", [5, 6], False, id="nothing to redact"),
        pytest.param("column", [5, 4, 2], True, id="redacted"),
        pytest.param("column", [0, 1, 2, 3, 5], True, id="redacted reasoning"),
        pytest.param("column", [0, 5, 3, 6], False, id="reasoning"),
        pytest.param("drop", [0, 5, 3, 6], True, id="dropped reasoning"),
        pytest.param("inline", [0, 5, 3, 6], False, id="inline reasoning"),
    ],
)
def test_tokens_are_withheld_with_the_text_that_they_have(
    reasoning: Reasoning, token_ids: list[int], withheld: bool
) -> None:
    ids = array("i", [one for token in token_ids for one in (token, 6)])
    recorded = TokenLogprobs(2, array("f", [-1.0] * len(ids)), ids)
    text = "".join(TOKENS[token] for token in token_ids)
    completion = Completion(4, 0, token_ids, text, "stop", -1.0, token_logprobs=recorded)
    made = builder(reasoning).build_response(ROW, completion).token_logprobs
    texts = tuple(TOKENS[one] for one in ids)
    expected = (
        {"token_ids": array("i"), "texts": ()} if withheld else {"token_ids": ids, "texts": texts}
    )
    assert made == replace(recorded, **expected)


def test_tokens_beyond_the_text_are_withheld_if_they_would_be_redacted() -> None:
    recorded = TokenLogprobs(1, array("f", [-1.0] * 3), array("i", [5, 4, 2]))
    cut = Completion(4, 0, [5, 4, 2], "x", "stop_string", -1.0, token_logprobs=recorded)
    made = builder().build_response(ROW, cut).token_logprobs
    assert made == replace(recorded, token_ids=array("i"))


def test_an_engine_failure_has_no_text() -> None:
    failure = Failure("out_of_memory", "no memory")
    made = builder().build_response(ROW, Completion(4, 0, (), "", "error", failure=failure))
    assert (made.response, made.reasoning, made.output_tokens) == (None, None, None)
    assert (made.finish_reason, made.failure) == ("error", failure)


def test_a_seed_that_the_engine_did_not_use_is_not_stored() -> None:
    made = builder().build_response(ROW, Completion(4, 0, [5], "x", "stop", seed_honored=False))
    assert made.seed is None


@pytest.mark.parametrize(
    ("temperature", "seeds", "seed"),
    [(0.0, True, 10), (0.0, False, 10), (0.7, True, 10), (0.7, False, None)],
)
def test_a_sampled_answer_has_a_seed_only_if_its_engine_uses_seeds(
    temperature: float, seeds: bool, seed: int | None
) -> None:
    row = replace(ROW, decoding=ResolvedDecoding(temperature=temperature))
    completion = Completion(4, 0, [5], "x", "stop")
    assert builder(seeds=seeds).build_response(row, completion).seed == seed


def test_a_failed_row_has_one_response_for_each_sample() -> None:
    made = builder().failed_responses(ROW, FAILURE)
    assert [(one.sample, one.seed) for one in made] == [(0, 10), (1, 11)]
    assert {(one.finish_reason, one.failure) for one in made} == {("skipped", FAILURE)}
    assert {one.input_tokens for one in made} == {3}
