"""Lengths of time as people write them: `5h30m`."""

import re

PATTERN = r"^(\d{1,6}[dhms])+$"
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def in_seconds(text: str) -> int:
    """Seconds of a text that fits `PATTERN`."""
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([dhms])", text))
