"""What an HTTP answer means for a row, and how long to wait before it is sent again.

answer    200 with JSON
refused   this row will never be accepted: 400, 413, 422 and other 4xx
fatal     no row will be accepted: 401, 402, 403, 404, 405, and redirects, which are not followed
busy      the server has too much to do: 429, 503, 529
away      another program answers, or none: 408, 409, 425, 502, 504, a page instead of JSON
broken    500: the row may be the cause
"""

import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Literal

from batchgen.engines.openai.transport.http_connection import HttpReply

Verdict = Literal["answer", "refused", "fatal", "busy", "away", "broken"]

TRIES = 6
"""How often a row is sent while the server works for other rows."""
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0
_BUSY = frozenset({429, 503, 529})
_AWAY = frozenset({408, 409, 425, 502, 504})
_FATAL: Mapping[int, str] = {
    401: "the key was refused",
    402: "the account has no credit",
    403: "the key may not use this model",
    404: "the path or the model does not exist",
    405: "the path does not exist",
}


def judge_reply(reply: HttpReply) -> Verdict:
    """What an answer means, by its status; see the table above."""
    status = reply.status
    if 200 <= status < 300:
        return "away" if reply.is_page else "answer"
    if status in _FATAL or 300 <= status < 400:
        return "fatal"
    if status in _BUSY:
        return "busy"
    if status in _AWAY or (status > 500 and status != 501):
        return "away"
    return "broken" if status == 500 else "refused"


def fatal_reason(reply: HttpReply) -> str:
    """Why no row will be accepted. The body is never quoted: it may repeat a row or a part of the key."""
    reason = _FATAL.get(reply.status, "it redirects to another address, which is not followed")
    return f"{reason} (HTTP {reply.status})"


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """The seconds that the server wants to be left alone, at most an hour; None if it gives no number.

    `now` is the time of day in seconds since 1970.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - (
                time.time() if now is None else now
            )
        except (ValueError, OverflowError):
            return None
    return min(3600.0, max(0.0, seconds)) if seconds == seconds else None  # not NaN


def backoff(failures: int, *, first: float, longest: float) -> float:
    """Seconds before the next try: a random share of a span that doubles with each failure."""
    return random.uniform(0, min(longest, first * 2.0 ** min(failures, 30)))
