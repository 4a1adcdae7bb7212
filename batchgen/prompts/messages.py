"""Reads conversations from a column: a list of {role, content}, or its JSON text.

Roles are an allow-list, because chat templates write them next to control tokens.
"""

import json
from collections.abc import Mapping
from typing import get_args

from batchgen.records import Failure, Message, Role

ROLES: tuple[Role, ...] = get_args(Role)


def read_messages(value: object, column: str) -> tuple[Message, ...] | Failure:
    """Read a cell; other keys of a message (`name`, `weight`, …) are ignored."""
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
    if messages[-1].role == "assistant":
        return Failure(
            "invalid_messages",
            f"{place} ends with the assistant; end with the user, and put the start of the response in prompt.prefill",
        )
    return tuple(messages)


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


def _message(item: object, place: str) -> Message | Failure:
    if not isinstance(item, Mapping):
        return Failure("invalid_messages", f"{place} is not of the form {_SHAPE}")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        return Failure("invalid_messages", f"{place}: its role is not one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        return Failure("invalid_messages", f"{place}: its content is not text")
    return Message(role, content)
