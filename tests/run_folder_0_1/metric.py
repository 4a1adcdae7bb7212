"""The metric of a user's job."""

from typing import Any


def short(answer: Any) -> bool:
    return len(answer.response) < 20
