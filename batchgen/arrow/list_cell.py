"""Cells that hold a list, or the JSON text of one."""

import json
from collections.abc import Mapping, Sequence


def list_items(value: object) -> Sequence[object] | None:
    """The items of a list, or of the JSON text of one; None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def is_user_message(item: object) -> bool:
    """Whether a chat message, {role, content} or ShareGPT's {from, value}, is the user's."""
    if not isinstance(item, Mapping):
        return False
    role = item.get("role", item.get("from"))
    return role in ("user", "human")
