"""What a server's JSON becomes, whatever numbers and texts it contains."""

import pytest

from batchgen.decoding_settings import AnswerGrammar
from batchgen.engines.openai.answer_json import parse_json, read_completion
from batchgen.engines.openai.label_likelihoods import top_tokens
from batchgen.records import Request, ResolvedDecoding

HUGE = "1" + "0" * 400


@pytest.mark.parametrize("message", ['"x"', "5", "[]"])
def test_a_message_that_is_no_object_is_checked_by_the_text_beside_it(message: str) -> None:
    answer = parse_json(
        f'{{"choices": [{{"finish_reason": "stop", "text": "no", "message": {message}}}]}}'.encode()
    )
    assert answer is not None
    decoding = ResolvedDecoding(max_new_tokens=1, grammar=AnswerGrammar("choice", '["yes", "no"]'))
    completion = read_completion(Request(0, 0, (1,), decoding, seed=0), answer, seeded=True)
    assert (completion.failure, completion.text) == (None, "no")


@pytest.mark.parametrize(
    "number", [HUGE, "-" + HUGE, "NaN", "Infinity", "1e999", "true", "null", '"x"']
)
def test_a_log_probability_that_is_no_finite_number_fails_the_row(number: str) -> None:
    listed = f'{{"content": [{{"logprob": {number}, "top_logprobs": [{{"id": 5, "logprob": {number}}}]}}]}}'
    body = f'{{"choices": [{{"finish_reason": "stop", "text": "x", "logprobs": {listed}}}]}}'
    answer = parse_json(body.encode())
    assert answer is not None
    request = Request(0, 0, (1,), ResolvedDecoding(max_new_tokens=1, logprobs=True), seed=0)
    completion = read_completion(request, answer, seeded=True)
    assert completion.failure is not None
    assert completion.failure.code == "server_error"
    assert top_tokens(answer) == {}
