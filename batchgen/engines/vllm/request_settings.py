"""The decoding settings of a request, as vLLM names them."""

import json
from typing import Any

from batchgen.decoding_settings import AnswerGrammar
from batchgen.records import Request
from batchgen.structured.compile_grammar import COMPACT, alternatives


def sampling_settings(request: Request) -> dict[str, Any]:
    """Arguments of `SamplingParams`, but for the kind of output and the form of the answer.

    End tokens are those of the job, not those that vLLM reads from the model's files. Stop strings are not among them:
    the engine follows the answer itself.
    """
    decoding = request.decoding
    logprobs = decoding.top_logprobs or 0
    return {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": decoding.top_k,
        "min_p": decoding.min_p,
        "repetition_penalty": decoding.repetition_penalty,
        "max_tokens": decoding.max_new_tokens,
        "min_tokens": decoding.min_new_tokens,
        "seed": None if decoding.greedy else request.seed,
        "stop_token_ids": sorted(decoding.end_token_ids),
        # After its last token, a form is ended with the tokenizer's own end token.
        "ignore_eos": decoding.grammar is None,
        "detokenize": False,
        "logprobs": logprobs if decoding.logprobs else None,
    }


def form_settings(grammar: AnswerGrammar) -> dict[str, Any]:
    """Arguments of `StructuredOutputsParams`, for its backend `guidance`: the same library and grammar as in other engines."""
    if grammar.kind in ("json_schema", "json_object"):
        text = grammar.text if grammar.kind == "json_schema" else '{"type": "object"}'
        return {"json": json.dumps({**json.loads(text), "x-guidance": COMPACT})}
    if grammar.kind == "choice":
        return {"regex": alternatives(json.loads(grammar.text))}
    return {grammar.kind: grammar.text}
