"""Which settings a server honors, found by effect: servers accept fields that they ignore.

Each setting is sent so that it must change the answer, or fix it: with `top_k: 1` two seeds give the same text at a high
temperature. A server whose own defaults are not neutral (llama.cpp: top_k 40, min_p 0.05) gets neutral values for every
field that it honors, and a setting that it does not honor is an error of the job.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchgen.engines.openai.answer_json import choice_of, parse_json, read_usage, text_of
from batchgen.engines.openai.label_likelihoods import TOP, label_fields, top_tokens
from batchgen.engines.openai.prompt_likelihoods import WAYS as PROMPT_WAYS
from batchgen.engines.openai.prompt_likelihoods import prompt_fields, prompt_values
from batchgen.engines.openai.transport.http_connection import HttpReply

Send = Callable[[bytes], HttpReply]
"""Sends a request until there is a reply that is not about a server that is busy."""

Dialect = Mapping[str, str]
"""The server's field for each setting that it honors; `top_k_off`: the value that switches top_k off."""

_ANSWER = 16
"""New tokens of an answer."""
_SURE = 5
"""So many log-probabilities are those of a prompt: the new token alone has one."""
_HOT = 1.8
_PROMPT = "Describe the sea, the sea, the sea and the wind in a few words."
_TEXT = "The sea, the sea, the sea and the wind, the"
"""The same without a chat template: a text that does not end, since models may answer a finished one with nothing."""
_SHORT_PROMPT = "Reply with the single word yes."


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """An answer to a probe; `text` is None if the server refused the request. `finish`: why it ended, as the server reports it."""

    status: int
    text: str | None
    finish: str
    tokens: int | None
    prompt_tokens: int | None
    has_logprobs: bool


@dataclass(frozen=True, slots=True)
class _Reply:
    """`answer` is None if the server refused the request."""

    status: int
    answer: dict[str, Any] | None


class DialectProbe:
    """Sends the requests of a probe; at most about 20, each of a few tokens."""

    def __init__(self, send: Send, served_name: str, *, tokens: bool) -> None:
        self._send, self._name, self._tokens = send, served_name, tokens
        self._length = "max_tokens"

    def base(self) -> ProbeAnswer:
        """A greedy answer; also finds the field for the length of an answer."""
        first = self.ask(temperature=0)
        if first.text is None and not self._tokens:
            self._length = "max_completion_tokens"
            first = self.ask(temperature=0)
        return first

    def find(self, wanted: frozenset[str], *, sampled: bool) -> dict[str, str]:
        """The fields for the wanted settings that the server honors.

        The fields that have neutral values which must be sent are looked for as well: the penalty, and for sampled
        answers top_k, min_p and the seed.
        """
        found = {} if self._length == "max_tokens" else {"max_new_tokens": self._length}
        if field := self._repetition_field():
            found["repetition_penalty"] = field
        if sampled:
            found |= dict(self._sampling_fields(wanted))
        if "stop_strings" in wanted and self._honors_stop():
            found["stop_strings"] = "stop"
        if "min_new_tokens" in wanted and self._honors_min_tokens():
            found["min_new_tokens"] = "min_tokens"
        if "logprobs" in wanted and self.ask(temperature=0, **self.logprobs_field()).has_logprobs:
            found["logprobs"] = "logprobs"
        return found

    def likelihoods(self) -> str:
        """How the server returns log-probabilities of given texts: `prompt_logprobs`, `echo`, `top` for the most likely tokens; else empty."""
        for way in PROMPT_WAYS:
            answer = self._post(_TEXT, prompt_fields(way)).answer
            values = prompt_values(answer, way) if answer is not None else []
            if len([value for value in values if value is not None]) >= _SURE:
                return way
        top = self._post(_TEXT, label_fields(TOP[-1])).answer
        return "top" if top is not None and len(top_tokens(top)) > 1 else ""

    def logprobs_field(self) -> dict[str, Any]:
        return {"logprobs": 1} if self._tokens else {"logprobs": True}

    def ask(self, prompt: str = "", length: int = _ANSWER, **fields: Any) -> ProbeAnswer:  # noqa: ANN401  # of a JSON object
        """Send one request."""
        prompt = prompt or (_TEXT if self._tokens else _PROMPT)
        reply = self._post(prompt, {self._length: length} | fields)
        answer = reply.answer
        choice = choice_of(answer) if answer is not None else None
        if answer is None or choice is None:
            return ProbeAnswer(reply.status, None, "", None, None, has_logprobs=False)
        usage, logprobs = read_usage(answer), choice.get("logprobs")
        listed = isinstance(logprobs, dict) and bool(
            logprobs.get("content") or logprobs.get("token_logprobs")
        )
        text, finish = text_of(choice), str(choice.get("finish_reason"))
        return ProbeAnswer(
            reply.status, text, finish, usage.completion, usage.prompt, has_logprobs=listed
        )

    def _post(self, prompt: str, fields: Mapping[str, Any]) -> "_Reply":
        sent: dict[str, Any] = {"model": self._name, **fields}
        sent |= {"prompt": prompt} if self._tokens else {"messages": _chat(prompt)}
        reply = self._send(json.dumps(sent).encode())
        return _Reply(reply.status, parse_json(reply.body) if reply.status == 200 else None)

    def _sampling_fields(self, wanted: frozenset[str]) -> Iterator[tuple[str, str]]:
        first, other = self._hot(1), self._hot(2)
        if first is None or first == other:
            return
        yield "temperature", "temperature"
        if self._hot(1) == first:
            yield "seed", "seed"
        if "top_p" in wanted and self._is_fixed_by(top_p=1e-6):
            yield "top_p", "top_p"
        if self._is_fixed_by(min_p=1.0):
            yield "min_p", "min_p"
        if self._is_fixed_by(top_k=1):
            yield "top_k", "top_k"
            off = next((v for v in (0, -1) if self._hot(1, top_k=v) is not None), None)
            yield from [] if off is None else [("top_k_off", str(off))]

    def _hot(self, seed: int, **fields: Any) -> str | None:  # noqa: ANN401  # of a JSON object
        neutral: dict[str, Any] = {"temperature": _HOT, "top_p": 1.0, "seed": seed}
        return self.ask(**(neutral | fields)).text

    def _is_fixed_by(self, **fields: Any) -> bool:  # noqa: ANN401  # of a JSON object
        """Whether the fields make answers with two seeds equal."""
        first = self._hot(3, **fields)
        return first is not None and first == self._hot(4, **fields)

    def _repetition_field(self) -> str:
        """The field of the repetition penalty: it must change a greedy answer that is otherwise repeated."""
        greedy = self.ask(temperature=0).text
        if greedy is None or greedy != self.ask(temperature=0).text:
            return ""
        for field in ("repetition_penalty", "repeat_penalty"):
            changed = self._penalized(field)
            if changed is not None and changed != greedy:
                return field
        return ""

    def _penalized(self, field: str) -> str | None:
        fields: dict[str, Any] = {"temperature": 0, field: 1.9}
        return self.ask(**fields).text

    def _honors_stop(self) -> bool:
        greedy = self.ask(temperature=0).text or ""
        middle = greedy[len(greedy) // 2 :][:3]
        cut = self.ask(temperature=0, stop=[middle]).text if middle else None
        return cut is not None and middle not in cut and len(cut) < len(greedy)

    def _honors_min_tokens(self) -> bool:
        free = self.ask(_SHORT_PROMPT, temperature=0)
        forced = self.ask(_SHORT_PROMPT, temperature=0, min_tokens=_ANSWER)
        return (free.tokens or _ANSWER) < _ANSWER and forced.tokens == _ANSWER


def _chat(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]
