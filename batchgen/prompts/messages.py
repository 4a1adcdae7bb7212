"""Reads conversations from a column: a list of {role, content}, or of ShareGPT's {from, value}, or the JSON text of one.

Roles are an allow-list, because chat templates write them next to control tokens.
"""

import json
from collections.abc import Mapping
from typing import get_args

from batchgen.arrow.list_cell import list_items
from batchgen.records import Failure, Message, Role

ROLES: tuple[Role, ...] = get_args(Role)


def read_messages(
    value: object, column: str, turn: int | None = None
) -> tuple[Message, ...] | Failure:
    """Read a cell, up to the user's message number `turn` if it is given; other keys of a message (`name`, …) are ignored."""
    place = f"column {column!r}"
    items = _items(value, place)
    if isinstance(items, Failure):
        return items
    messages: list[Message] = []
    for number, item in enumerate(items, start=1):
        message = _message(item, f"{place}, message {number} of {len(items)}")
        if isinstance(message, Failure):
            return message
        messages.append(message)
        if turn is not None and sum(m.role == "user" for m in messages) == turn:
            break
    if turn is not None and messages[-1].role != "user":
        return Failure("invalid_messages", f"{place} has no message of the user number {turn}")
    if messages[-1].role == "assistant":
        return Failure(
            "invalid_messages",
            f"{place} ends with the assistant; set prompt.replay: recorded to answer every message of the user, "
            "or end with the user, and put the start of the response in prompt.prefill",
        )
    return tuple(messages)


def read_turns(value: object, column: str) -> tuple[str, ...] | Failure:
    """Read a cell with the user's messages of a conversation."""
    place = f"column {column!r}"
    if value is None or value == "":
        return Failure("prompt_null", f"{place} is null")
    items = list_items(value)
    if not items:
        return Failure("invalid_messages", f"{place} is not a list of texts")
    if not all(isinstance(item, str) for item in items):
        return Failure("invalid_messages", f"{place}: not all items of its list are texts")
    return tuple(map(str, items))


def _items(value: object, place: str) -> list[object] | Failure:
    if value is None:
        return Failure("prompt_null", f"{place} is null")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return Failure("invalid_messages", f"{place} is text, but not the JSON of a list")
    if not isinstance(value, list) or not value:
        return Failure("invalid_messages", f"{place} is not a list of messages {_SHAPE}")
    return value


_SHAPE = "{role, content}"
_KEYS = (("role", "content"), ("from", "value"))
"""The keys of a message, also as ShareGPT writes them."""
_OTHER_ROLES: Mapping[str, Role] = {
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
}
"""Other names of the roles: of OpenAI's newer models, and of ShareGPT."""
_TOOL_ROLES = ("tool", "function", "observation", "function_call", "ipython")
_TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of a content part that is text, in the chat and the responses API of OpenAI."""


def _message(item: object, place: str) -> Message | Failure:
    if not isinstance(item, Mapping):
        return Failure("invalid_messages", f"{place} is not of the form {_SHAPE}")
    role_key, content_key = next((keys for keys in _KEYS if keys[0] in item), _KEYS[0])
    name, content = item.get(role_key), item.get(content_key)
    role = _role(name)
    if role is None:
        if name in _TOOL_ROLES:
            return _unsupported(f"{place} is the result or the call of a tool")
        return Failure("invalid_messages", f"{place}: its role is not one of {', '.join(ROLES)}")
    if item.get("tool_calls") or item.get("function_call"):
        return _unsupported(f"{place} calls a tool")
    text = _text(content, place)
    return text if isinstance(text, Failure) else Message(role, text)


def _role(name: object) -> Role | None:
    if not isinstance(name, str):
        return None
    return next((role for role in ROLES if role == name), _OTHER_ROLES.get(name))


def _text(content: object, place: str) -> str | Failure:
    """The text of a message. Parts of text are joined as they stand."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return Failure("invalid_messages", f"{place}: its content is not text")
    texts: list[str] = []
    for number, part in enumerate(content, start=1):
        text = part.get("text") if isinstance(part, Mapping) else part
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if isinstance(kind, str) and kind not in _TEXT_PARTS:
            return _unsupported(f"{place}: part {number} of its content is not text")
        if not isinstance(text, str):
            words = f"{place}: part {number} of its content is not of the form {{type, text}}"
            return Failure("invalid_messages", words)
        texts.append(text)
    return "".join(texts)


def _unsupported(words: str) -> Failure:
    return Failure(
        "unsupported_content", f"{words}; only text is supported: remove it, or filter these rows"
    )
