"""Sends the requests of a probe to one server."""

import time
from dataclasses import dataclass

from batchgen.engines.openai.transport.http_connection import (
    ConnectionLostError,
    HttpConnection,
    HttpReply,
)
from batchgen.engines.openai.transport.retry_policy import fatal_reason, judge_reply, retry_after
from batchgen.errors import ModelError, UnavailableError

_BROKEN = 2
"""So many answers with HTTP 500 to a field refuse it."""


@dataclass(slots=True)
class ProbeSender:
    """Sends the requests of a probe, each until the server is not busy."""

    connection: HttpConnection
    path: str
    until: float
    _works: bool = False

    def send(self, body: bytes) -> HttpReply:
        """The reply; HTTP 500 is one if it comes again and again from a server that has answered another request."""
        broken = 0
        while True:
            wait = 1.0
            try:
                reply = self.connection.send("POST", self.path, body)
            except ConnectionLostError as error:
                why = error.why
            else:
                verdict = judge_reply(reply)
                if verdict == "fatal":
                    raise ModelError(
                        f"{self.connection.url}{self.path}: {fatal_reason(reply)}",
                        hint="Check base_url, served_name and api_key_env.",
                    )
                broken += verdict == "broken"
                if verdict in ("answer", "refused") or (self._works and broken >= _BROKEN):
                    self._works = self._works or verdict == "answer"
                    return reply
                why, wait = f"HTTP {reply.status}", retry_after(reply.headers) or wait
            if time.monotonic() + wait > self.until:
                raise UnavailableError(
                    f"{self.connection.url} gives no answer: {why}",
                    hint="Start the server, then repeat the same command.",
                )
            time.sleep(wait)
