"""Settings of requests as vLLM names them."""

import json
from typing import Any

import pytest

from batchgen.decoding_settings import AnswerGrammar
from batchgen.engines.vllm.request_settings import form_settings, sampling_settings
from batchgen.records import Request, ResolvedDecoding

NEUTRAL: dict[str, Any] = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "max_tokens": 256,
    "min_tokens": 0,
    "seed": None,
    "stop_token_ids": [],
    "ignore_eos": True,
    "detokenize": False,
    "logprobs": None,
}
REGEX = AnswerGrammar("regex", "a+")


@pytest.mark.parametrize(
    ("decoding", "expected"),
    [
        pytest.param(ResolvedDecoding(), {}, id="greedy"),
        pytest.param(
            ResolvedDecoding(temperature=0.5, top_k=7, min_p=0.1, top_p=0.9),
            {"temperature": 0.5, "top_k": 7, "min_p": 0.1, "top_p": 0.9, "seed": 9},
            id="sampled",
        ),
        pytest.param(
            ResolvedDecoding(
                max_new_tokens=5,
                min_new_tokens=2,
                end_token_ids=frozenset({3, 2}),
                stop_strings=("x",),
                repetition_penalty=1.2,
            ),
            {
                "max_tokens": 5,
                "min_tokens": 2,
                "stop_token_ids": [2, 3],
                "repetition_penalty": 1.2,
            },
            id="ends",
        ),
        pytest.param(ResolvedDecoding(logprobs=True), {"logprobs": 0}, id="mean"),
        pytest.param(ResolvedDecoding(logprobs=True, top_logprobs=3), {"logprobs": 3}, id="top"),
        pytest.param(ResolvedDecoding(grammar=REGEX), {"ignore_eos": False}, id="form"),
    ],
)
def test_decoding_settings(decoding: ResolvedDecoding, expected: dict[str, Any]) -> None:
    assert sampling_settings(Request(0, 0, [1], decoding, seed=9)) == NEUTRAL | expected


def test_forms_are_those_of_other_engines() -> None:
    assert form_settings(REGEX) == {"regex": "a+"}
    assert form_settings(AnswerGrammar("grammar", "start: /a/")) == {"grammar": "start: /a/"}
    choice = form_settings(AnswerGrammar("choice", '["a", "b.c"]'))
    assert choice == {"regex": r"(a|b\x{2E}c)"}
    schema = json.loads(form_settings(AnswerGrammar("json_schema", '{"type": "null"}'))["json"])
    assert schema["type"] == "null"
    assert schema["x-guidance"]["whitespace_flexible"] is False
    free = json.loads(form_settings(AnswerGrammar("json_object", ""))["json"])
    assert (free["type"], free["x-guidance"]["lenient"]) == ("object", False)
