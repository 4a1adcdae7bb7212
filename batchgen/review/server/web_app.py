"""The requests of the page.

GET  /                  the page
GET  /api/state         queue, own votes and progress of a reviewer
GET  /api/items/N       an answer
POST /api/next          another answer, with --overlap
POST /api/votes         a vote; answered when it is on disk
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from batchgen.errors import BatchgenError
from batchgen.feedback.vote import Reviewer
from batchgen.review.server.request_guard import Application, RequestGuard
from batchgen.review.server.review_session import ReviewSession
from batchgen.review.server.vote_request import RejectedError, describe_problems, parse_request

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_MAX_BODY = 4_200_000
"""Bytes of a request: a text of a million characters."""
_NAME = TypeAdapter[str](Reviewer)

Found = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReviewApi:
    """The endpoints. `policy` is that of the page."""

    session: ReviewSession
    page: str
    policy: str

    async def index(self, request: "Request") -> "Response":
        """The page; it contains no answers."""
        from starlette.responses import HTMLResponse

        del request
        headers = {"content-security-policy": f"{self.policy}; frame-ancestors 'none'"}
        return HTMLResponse(self.page, headers=headers)

    async def state(self, request: "Request") -> "Response":
        """Queue, own votes, progress."""
        return await _answer(lambda: self.session.state(_reviewer(request)))

    async def item(self, request: "Request") -> "Response":
        """An answer."""
        n: int = request.path_params["n"]
        return await _answer(lambda: self.session.item(n, _reviewer(request)))

    async def next(self, request: "Request") -> "Response":
        """Another answer for this reviewer."""
        return await _answer(lambda: {"n": self.session.next(_reviewer(request))})

    async def vote(self, request: "Request") -> "Response":
        """Save a vote."""
        body = await _body(request)
        return await _answer(lambda: self.session.record(parse_request(body)))


def build_app(api: ReviewApi, token: str, port: int) -> Application:
    """The application for requests with this token to this port."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    routes = [
        Route("/", api.index),
        Route("/api/state", api.state),
        Route("/api/items/{n:int}", api.item),
        Route("/api/next", api.next, methods=["POST"]),
        Route("/api/votes", api.vote, methods=["POST"]),
    ]
    return RequestGuard(Starlette(routes=routes), token, port)


async def _answer(read: Callable[[], Found]) -> "Response":
    """What `read` finds, as JSON; it runs in a thread, since it waits for the disk."""
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse

    try:
        return JSONResponse(await run_in_threadpool(read))
    except RejectedError as error:
        return JSONResponse({"error": str(error), "code": error.code}, 400)
    except BatchgenError as error:
        return JSONResponse({"error": str(error), "code": "disk"}, 503)


def _reviewer(request: "Request") -> str:
    try:
        return _NAME.validate_python(request.query_params.get("reviewer", ""))
    except ValidationError as error:
        raise RejectedError(f"reviewer: {describe_problems(error)}", "reviewer") from None


async def _body(request: "Request") -> bytes:
    """The body; nothing, which is not a vote, if it is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            return b""
    return body
