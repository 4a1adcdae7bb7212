"""A request as the JSON that a server reads."""

import json
from collections.abc import Mapping
from typing import Any

from batchgen.engines.openai.form_fields import form_fields
from batchgen.records import Request, ResolvedDecoding

SEED_RANGE = 2**31 - 1
"""Servers keep 32 bits of a seed, or 31."""


def request_body(
    served_name: str, request: Request, dialect: Mapping[str, str], *, tokens: bool
) -> bytes:
    """The body of a request: token ids for `/completions`, or messages for `/chat/completions`."""
    sent: dict[str, Any] = {"model": served_name, "stream": False}
    if tokens:
        sent["prompt"] = list(request.token_ids)
    elif request.prompt is not None:
        sent["messages"] = [
            {"role": message.role, "content": message.content}
            for message in request.prompt.messages
        ]
    else:
        raise ValueError("a request without messages")
    sent |= decoding_fields(request.decoding, dialect)
    if not request.decoding.greedy:
        sent["seed"] = request.seed % SEED_RANGE
    if request.decoding.logprobs:
        sent["logprobs"] = 1 if tokens else True
    return json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode()


def decoding_fields(decoding: ResolvedDecoding, dialect: Mapping[str, str]) -> dict[str, Any]:
    """The decoding settings. A neutral value is sent if the server honors its field: the server's default may differ."""
    fields: dict[str, Any] = {
        dialect.get("max_new_tokens", "max_tokens"): decoding.max_new_tokens,
        "temperature": decoding.temperature,
    }
    if field := dialect.get("repetition_penalty"):
        fields[field] = decoding.repetition_penalty
    if not decoding.greedy:
        fields["top_p"] = decoding.top_p
        if "min_p" in dialect:
            fields["min_p"] = decoding.min_p
        top_k: object = decoding.top_k or dialect.get("top_k_off")
        if "top_k" in dialect and top_k is not None:
            fields["top_k"] = int(str(top_k))
    if decoding.min_new_tokens:
        fields["min_tokens"] = decoding.min_new_tokens
    if decoding.stop_strings:
        fields["stop"] = list(decoding.stop_strings)
    if decoding.grammar is not None:
        fields |= form_fields(decoding.grammar, dialect[decoding.grammar.kind])
    return fields
