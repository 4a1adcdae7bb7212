"""The engine without a model: its artificial distribution is the documented one."""

import math

import pytest

from batchgen.engines.echo import EchoEngine
from batchgen.prompts.byte_tokenizer import ByteText
from batchgen.records import AnswerGrammar, Continuation, FinishReason, Request, ResolvedDecoding
from tests.plain_decoder import PlainDecoder


def test_the_repeated_prompt_is_likely_and_everything_else_is_not() -> None:
    context = [7, 8, 9]
    endings = ([7], [7, 8], [7, 9], [5], [7, 8, 9, 7])
    continuations = [Continuation(10 + n, context, ending) for n, ending in enumerate(endings)]
    found = list(EchoEngine(PlainDecoder(str)).likelihoods(continuations))
    assert [one.index for one in found] == [10, 11, 12, 13, 14]
    assert [one.greedy for one in found] == [True, True, False, False, False]
    half, other = math.log(1 / 2), math.log(1 / 2 / 65_536)
    assert [one.logprobs for one in found] == [
        (half,),
        (half, half),
        (half, other),
        (other,),
        (half, half, half, other),
    ]
    # One half, and equal shares of the rest for each token of the vocabulary, sum to 1.
    assert math.isclose(math.exp(half) + 65_536 * math.exp(other), 1)


@pytest.mark.parametrize(
    ("grammar", "limit", "text", "reason"),
    [
        (AnswerGrammar("choice", '["no"]'), 9, "no", "stop"),
        (AnswerGrammar("json_object", ""), 9, "{}", "stop"),
        (AnswerGrammar("regex", "é{3}"), 4, "éé", "length"),
        (AnswerGrammar("regex", "x", "</think>"), 9, "</think>x", "stop"),
    ],
)
def test_an_answer_has_the_form(
    grammar: AnswerGrammar, limit: int, text: str, reason: FinishReason
) -> None:
    decoding = ResolvedDecoding(max_new_tokens=limit, grammar=grammar)
    (answer,) = EchoEngine(ByteText()).generate([Request(0, 0, [1], decoding, 0)])
    assert (answer.text, answer.finish_reason) == (text, reason)
    assert len(answer.token_ids) == min(limit, len(text.encode()))


def test_a_prompt_that_has_the_form_is_repeated() -> None:
    decoding = ResolvedDecoding(grammar=AnswerGrammar("choice", '["no","yes"]'))
    (answer,) = EchoEngine(ByteText()).generate([Request(0, 0, list(b"yes"), decoding, 0)])
    assert answer.text == "yes"


def test_a_form_without_a_short_text_fails_its_row() -> None:
    long = '{"type":"array","items":{"type":"integer"},"minItems":3000}'
    decoding = ResolvedDecoding(grammar=AnswerGrammar("json_schema", long))
    (answer,) = EchoEngine(ByteText()).generate([Request(0, 0, [1], decoding, 0)])
    assert answer.failure is not None
    assert answer.failure.code == "grammar_unsupported"
