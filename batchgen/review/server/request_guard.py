"""Who may send requests: a browser that opened the page by its link. Everything else gets status 403 and nothing of the run.

Host      ours: a page elsewhere cannot reach this server under a name of its own (DNS rebinding)
Origin    ours, if there is one: no other page sends requests
token     of the link; without it, the answer explains where the link is
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN_HEADER = "x-review-token"
HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Of every answer, where it does not set them itself."""
WRONG_LINK = (
    "This link is not valid, or no longer. Open the link that `batchgen review` printed last.\n"
    "此链接无效或已失效。请打开 `batchgen review` 最近一次显示的链接。\n"
)
"""What a browser shows that opened the page with another token, or with none."""


@dataclass(frozen=True, slots=True)
class RequestGuard:
    """An ASGI application around another one."""

    inner: Application
    token: str
    port: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or reject it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                added = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                missing = [one for one in added if one[0] not in given]
                message = {**message, "headers": [*message["headers"], *missing]}
            await send(message)

        if scope["type"] != "http":
            return
        headers = _values_by_name(scope)
        ours = self._is_from_our_page(headers)
        if ours and self._has_token(headers, scope):
            await self.inner(scope, receive, send_with_headers)
            return
        body = WRONG_LINK.encode() if ours else b""
        named = {
            b"content-length": str(len(body)).encode(),
            b"content-type": b"text/plain; charset=utf-8",
        }
        start = {"type": "http.response.start", "status": 403, "headers": [*named.items()]}
        await send_with_headers(start)
        await send_with_headers({"type": "http.response.body", "body": body})

    def _is_from_our_page(self, headers: Mapping[str, Sequence[str]]) -> bool:
        hosts = {f"{name}:{self.port}" for name in ("127.0.0.1", "localhost")}
        host, origin = headers.get("host", []), headers.get("origin", [])
        if len(host) != 1 or host[0] not in hosts:
            return False
        return all(one == f"http://{host[0]}" for one in origin)

    def _has_token(self, headers: Mapping[str, Sequence[str]], scope: Scope) -> bool:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = [*headers.get(TOKEN_HEADER, []), *query.get("token", [])]
        return len(given) == 1 and secrets.compare_digest(
            given[0].encode("utf-8", "replace"), self.token.encode()
        )


def _values_by_name(scope: Scope) -> Mapping[str, Sequence[str]]:
    """The headers of a request."""
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return headers
