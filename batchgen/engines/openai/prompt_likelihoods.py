"""How likely given texts are after a prompt: from the log-probabilities that a server returns for the tokens of a prompt.

    context + continuation ──one request, one new token──> log-probabilities of all tokens ──> those of the continuation

Servers that return none list the most likely tokens, which is enough for labels: `label_likelihoods.py`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from batchgen.engines.openai.answer_json import choice_of, finite_number, read_usage
from batchgen.records import Continuation, Failure, Likelihood

PromptWay = Literal["prompt_logprobs", "echo"]
"""The field of vLLM, or that of OpenAI's first API."""
WAYS: tuple[PromptWay, ...] = ("prompt_logprobs", "echo")
"""In the order in which they are tried."""
_FIELDS: Mapping[PromptWay, dict[str, Any]] = {
    "prompt_logprobs": {"prompt_logprobs": 0},
    "echo": {"echo": True, "logprobs": 1},
}

TokenValue = tuple[float, bool]
"""Log-probability of a token of the prompt, and whether it is the most likely one."""


def prompt_fields(way: PromptWay) -> dict[str, Any]:
    """The fields of a request for the log-probabilities of its prompt."""
    return {"max_tokens": 1, "temperature": 0, **_FIELDS[way]}


def prompt_request(served_name: str, token_ids: Sequence[int], way: PromptWay) -> bytes:
    """The request for the log-probabilities of a prompt."""
    sent = {"model": served_name, "prompt": list(token_ids), "stream": False, **prompt_fields(way)}
    return json.dumps(sent, separators=(",", ":")).encode()


def prompt_values(answer: Mapping[str, Any], way: PromptWay) -> list[TokenValue | None]:
    """The value of each token of the prompt, and perhaps of the new one; None for the first token, empty if there are none."""
    choice = choice_of(dict(answer)) or {}
    if way == "prompt_logprobs":
        listed = choice.get("prompt_logprobs")
        return [_ranked(entry) for entry in listed] if isinstance(listed, list) else []
    logprobs = choice.get("logprobs")
    own = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    top = logprobs.get("top_logprobs") if isinstance(logprobs, dict) else None
    if not isinstance(own, list) or not isinstance(top, list) or len(own) != len(top):
        return []
    return [_compared(value, best) for value, best in zip(own, top, strict=True)]


def read_likelihood(
    one: Continuation, answer: Mapping[str, Any] | Failure, way: PromptWay
) -> Likelihood:
    """The likelihood of a continuation whose context and tokens were the prompt."""
    if isinstance(answer, Failure):
        return Likelihood(one.index, (), failure=answer)
    values, start = prompt_values(answer, way), len(one.context)
    sent = start + len(one.token_ids)
    found = [value for value in values[start:sent] if value is not None]
    counted = read_usage(dict(answer)).prompt
    if len(found) < len(one.token_ids) or len(values) > sent + 1 or counted not in (None, sent):
        words = f"the server returned {len(values)} log-probabilities for a prompt of {sent} tokens"
        return Likelihood(one.index, (), failure=Failure("server_error", words))
    logprobs, likely = zip(*found, strict=True)
    return Likelihood(one.index, logprobs, all(likely))


def _ranked(entry: object) -> TokenValue | None:
    """Of vLLM: by token id the log-probability and the rank; the prompt's own token comes first."""
    first = next(iter(entry.values()), None) if isinstance(entry, dict) else None
    value = finite_number(first.get("logprob")) if isinstance(first, dict) else None
    if value is None or not isinstance(first, dict):
        return None
    return value, first.get("rank") == 1


def _compared(value: object, best: object) -> TokenValue | None:
    number = finite_number(value)
    if number is None or not isinstance(best, dict):
        return None
    listed = [other for one in best.values() if (other := finite_number(one)) is not None]
    return number, number >= max(listed, default=number)
