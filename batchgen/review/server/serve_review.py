"""Serve the review page on this machine, until Ctrl-C."""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchgen.errors import ResourceError, UsageError
from batchgen.feedback.votes_file import feedback_folder
from batchgen.review.review_page import REVIEW_PAGE, render_review
from batchgen.review.server.review_session import ReviewSession
from batchgen.review.server.saved_link import read_link, write_link
from batchgen.review.server.web_app import ReviewApi, build_app
from batchgen.state.bucket_run import is_copy
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ReviewServer:
    """A bound port, and the link that opens the page."""

    session: ReviewSession
    listener: socket.socket
    token: str

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/?token={self.token}"

    def serve(self, started: Callable[[], None]) -> None:
        """Answer requests until a signal ends it; `started` is called when it does."""
        self.build(started).run(sockets=[self.listener])

    def build(self, started: Callable[[], None]) -> "uvicorn.Server":
        """The server, which closes the port when it ends."""
        import uvicorn

        page = render_review(self.session.setup, overlap=self.session.overlap is not None)
        api = ReviewApi(self.session, page, REVIEW_PAGE.policy)

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                started()

        config = uvicorn.Config(
            build_app(api, self.token, self.port),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            http="h11",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        return Server(config)


def open_review(session: ReviewSession, port: int) -> ReviewServer:
    """Bind a port; 0 is that of an earlier start, or any free one. The link is that of an earlier start with the same queue.

    Raises:
        UsageError: the port is in use, or reserved.
        ResourceError: no votes can be written.
    """
    for run in (session.setup.run, session.setup.other):
        if run is not None:
            check_takes_votes(run.folder)
    folder = session.setup.run.folder
    link = read_link(folder)
    token = link.token(session.identity)
    listener = _bind_again(link.known_ports(token)) if port == 0 else None
    if listener is None:
        listener = _bind(port)
    server = ReviewServer(session, listener, token)
    write_link(folder, link.served(token, server.port))
    return server


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise _port_error(port, error) from error
    return listener


def _bind_again(ports: Sequence[int]) -> socket.socket | None:
    """The first free one of the ports of earlier starts; None if other programs have them all now."""
    for port in ports:
        with suppress(UsageError, ResourceError):
            return _bind(port)
    return None


def _port_error(port: int, error: OSError) -> UsageError | ResourceError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"port {port} of {HOST} is in use",
            hint="Give another one with --port, or leave it out: then a free one is taken.",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"port {port} is reserved", hint="Give a port from 1024 with --port.")
    return ResourceError(f"cannot listen on port {port} of {HOST}: {error.strerror}")


def check_takes_votes(run: RunFolder) -> None:
    """Check that votes can be written into a run folder.

    Raises:
        UsageError: it is a copy of a run in object storage.
        ResourceError: the folder is read-only.
    """
    if is_copy(run.path):
        raise UsageError(
            "a run in object storage takes no votes: nothing is written into a bucket",
            hint="Write the page as a file with --export FILE, or copy the run to a folder.",
        )
    folder = feedback_folder(run)
    target = folder if exists(folder) else run.path
    if not os.access(target, os.W_OK | os.X_OK):
        raise ResourceError(
            f"votes cannot be written: {target} is read-only for this user",
            hint="Make the folder writable, or write the page as a file with --export FILE.",
        )
