"""A server's JSON to a completion. Whatever the JSON contains, the result is a completion or a failed row."""

import json
import math
from dataclasses import dataclass
from typing import Any

from batchgen.decoding_settings import AnswerGrammar
from batchgen.records import Completion, Failure, FailureCode, FinishReason, Request
from batchgen.structured.answer_check import has_form


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens as the server counted them; None if it did not."""

    prompt: int | None
    completion: int | None


def parse_json(body: bytes) -> dict[str, Any] | None:
    """The object in an answer; None if there is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_usage(answer: dict[str, Any]) -> TokenUsage:
    """The token counts of an answer."""
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return TokenUsage(_count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens")))


def has_error_only(answer: dict[str, Any]) -> bool:
    """Whether a server has sent an error with the status of an answer, as some gateways do."""
    return bool(answer.get("error")) and "choices" not in answer


def choice_of(answer: dict[str, Any]) -> dict[str, Any] | None:
    """The only choice of an answer; None if there is another number of them."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    return choice if isinstance(choice, dict) else None


def read_completion(request: Request, answer: dict[str, Any], *, seeded: bool) -> Completion:
    """The completion of a request, or the failed row if the answer has none. `seeded`: the server honors seeds."""
    choice = choice_of(answer)
    if choice is None:
        return failed(request, "server_error", "the server's answer contains no single choice")
    text, logprob = text_of(choice), None
    if (fault := _fault(request, choice, text)) is not None or text is None:
        return failed(request, *(fault or _NO_TEXT))
    if request.decoding.logprobs and (logprob := _mean_logprob(choice)) is None:
        return failed(request, "server_error", "the server's answer contains no log-probabilities")
    ended = choice["finish_reason"]
    reason: FinishReason = ended
    if ended == "stop" and isinstance(choice.get("stop_reason"), str):
        reason = "stop_string"
    usage = read_usage(answer)
    return Completion(
        request.index,
        request.sample,
        (),
        text,
        reason,
        logprob,
        seed_honored=seeded or request.decoding.greedy,
        input_tokens=usage.prompt,
        output_tokens=usage.completion or 0,
    )


def _fault(
    request: Request, choice: dict[str, Any], text: str | None
) -> tuple[FailureCode, str] | None:
    """Code and message of an answer that is none; None for one that is complete."""
    ended, grammar = choice.get("finish_reason"), request.decoding.grammar
    if ended not in ("stop", "length"):
        shown = ended if ended in ("content_filter", "tool_calls", "function_call") else "no reason"
        return "server_error", f"the server ended the answer with {shown} instead of stop or length"
    if text is None:
        return _NO_TEXT
    if ended == "stop" and grammar is not None and not _has_form(grammar, choice):
        return _OTHER_FORM
    return None


_NO_TEXT: tuple[FailureCode, str] = "server_error", "the server's answer contains no text"
_OTHER_FORM: tuple[FailureCode, str] = (
    "grammar_violated",
    "the answer does not have the form of decoding.response_format, which the server did not enforce",
)


def _mean_logprob(choice: dict[str, Any]) -> float | None:
    """The mean over the tokens of an answer; None if it lists none."""
    listed = choice.get("logprobs")
    if not isinstance(listed, dict):
        return None
    values = listed.get("token_logprobs")
    if not isinstance(values, list):
        content = listed.get("content")
        entries = content if isinstance(content, list) else []
        values = [entry.get("logprob") for entry in entries if isinstance(entry, dict)]
    numbers = [number for v in values if (number := finite_number(v)) is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def finite_number(value: object) -> float | None:
    """A number of JSON, which may be longer than any float, NaN or infinite; None if it is none or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def failed(request: Request, code: FailureCode, message: str) -> Completion:
    """The completion of a row without an answer."""
    failure = Failure(code, message)
    return Completion(request.index, request.sample, (), "", "error", failure=failure)


def _has_form(grammar: AnswerGrammar, choice: dict[str, Any]) -> bool:
    """Whether an answer without its reasoning has the form."""
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    return has_form(grammar, sound_text(text if isinstance(text, str) else ""))


def text_of(choice: dict[str, Any]) -> str | None:
    """The text of an answer; reasoning that the server has split off stands in front of it, between think tags."""
    message = choice.get("message")
    if not isinstance(message, dict):
        text = choice.get("text")
        return sound_text(text) if isinstance(text, str) else None
    content = message.get("content")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(reasoning, str) and reasoning and isinstance(content, str | None):
        return sound_text(f"<think>{reasoning}</think>{content or ''}")
    return sound_text(content) if isinstance(content, str) else None


def sound_text(text: str) -> str:
    """The text without lone surrogates, which JSON can spell and no file can contain."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _count(value: object) -> int | None:
    valid = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if valid and isinstance(value, int) else None
