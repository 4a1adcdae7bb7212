"""How likely short texts are after a prompt, such as the labels of a judge: from the most likely tokens that a server lists.

    context ──one request, one new token──> log-probabilities of the most likely tokens ──> those of the first tokens
    context + first token ──────────────> ... ──> those of the second ones, and so on

Labels of one context share its request.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.engines.openai.answer_json import choice_of, finite_number
from batchgen.records import Continuation, Failure, Likelihood

TOP = (1000, 100, 20)
"""How many of the most likely tokens are requested; a server that refuses the first number is sent the next one."""
_TOKEN_ID = "token_id:"

Fetch = Callable[[bytes], "dict[str, Any] | Failure"]


@dataclass(frozen=True, slots=True)
class ContinuationGroup:
    """Continuations of one context."""

    continuations: tuple[Continuation, ...]


def group_by_context(continuations: Iterator[Continuation]) -> Iterator[ContinuationGroup]:
    """Neighbours with the same context together."""
    group: list[Continuation] = []
    for one in continuations:
        if group and list(group[0].context) != list(one.context):
            yield ContinuationGroup(tuple(group))
            group = []
        group.append(one)
    if group:
        yield ContinuationGroup(tuple(group))


def label_request(served_name: str, token_ids: Sequence[int], top: int) -> bytes:
    """The request for the most likely tokens after a prompt."""
    sent = {"model": served_name, "prompt": list(token_ids), "stream": False, **label_fields(top)}
    return json.dumps(sent, separators=(",", ":")).encode()


def label_fields(top: int) -> dict[str, Any]:
    """The fields of a request for the most likely tokens after its prompt."""
    return {
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": top,
        "return_tokens_as_token_ids": True,
    }


def top_tokens(answer: Mapping[str, Any]) -> dict[int, float]:
    """Log-probabilities by token id at the first new position; empty if the server lists none by id."""
    choice = choice_of(dict(answer))
    logprobs = choice.get("logprobs") if choice is not None else None
    if not isinstance(logprobs, dict):
        return {}
    content, listed = logprobs.get("content"), logprobs.get("top_logprobs")
    if isinstance(content, list) and content and isinstance(content[0], dict):
        entries = content[0].get("top_logprobs")
        pairs = [(e.get("id"), e.get("logprob")) for e in entries or () if isinstance(e, dict)]
    elif isinstance(listed, list) and listed and isinstance(listed[0], dict):
        pairs = [(_id(token), value) for token, value in listed[0].items()]
    else:
        return {}
    return {
        token: number
        for token, value in pairs
        if isinstance(token, int) and (number := finite_number(value)) is not None
    }


def score_group(
    group: ContinuationGroup, served_name: str, top: int, fetch: Fetch
) -> list[Likelihood]:
    """The likelihoods of all continuations of a context."""
    known: dict[tuple[int, ...], dict[int, float] | Failure] = {}

    def after(prefix: tuple[int, ...]) -> dict[int, float] | Failure:
        if prefix not in known:
            context = [*group.continuations[0].context, *prefix]
            answer = fetch(label_request(served_name, context, top))
            known[prefix] = answer if isinstance(answer, Failure) else top_tokens(answer)
        return known[prefix]

    return [_score(one, after) for one in group.continuations]


def _score(
    one: Continuation, after: Callable[[tuple[int, ...]], dict[int, float] | Failure]
) -> Likelihood:
    logprobs: list[float] = []
    greedy = True
    for position, token in enumerate(one.token_ids):
        listed = after(tuple(one.token_ids[:position]))
        if isinstance(listed, Failure):
            return Likelihood(one.index, (), failure=listed)
        if token not in listed:
            words = (
                f"the token is not among the {len(listed):,} most likely ones that the server lists"
            )
            return Likelihood(one.index, (), failure=Failure("server_error", words))
        logprobs.append(listed[token])
        greedy = greedy and listed[token] == max(listed.values())
    return Likelihood(one.index, tuple(logprobs), greedy)


def _id(token: object) -> int | None:
    text = token.removeprefix(_TOKEN_ID) if isinstance(token, str) else ""
    named = isinstance(token, str) and token.startswith(_TOKEN_ID) and text.isdigit()
    return int(text) if named else None
