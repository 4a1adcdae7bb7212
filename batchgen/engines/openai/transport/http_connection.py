"""One HTTP/1.1 connection to a server, used by one thread.

`http.client` of the standard library, in threads: 0.2 ms of processor time a request, against 1.0 ms of an asynchronous
client. It reads no proxy settings, follows no redirects, and sends nothing to any other address.
"""

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from batchgen.engines.openai.transport.base_url import BaseUrl

CONNECT_SECONDS = 10.0
_MOST_BYTES = 64 * 2**20
"""An answer that is longer is not read."""
_CHUNK_BYTES = 2**18
_SECONDS_KEPT = 1.0
"""A connection without TLS that is older is closed after its answer, and opened anew for the next request.

Some servers, such as llama.cpp's, have a thread for each open connection and only few of them: if connections stayed open,
the requests of all others would wait until the end of the run, or for their timeout.
"""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What a server sent. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_page(self) -> bool:
        return self.body.lstrip()[:1] == b"<"


class ConnectionLostError(Exception):
    """There is no complete answer.

    `sent`: the server had the request, so that the request may be the cause; `hopeless`: waiting does not help; `hint`: what
    does, where that is known.
    """

    def __init__(self, why: str, *, sent: bool, hopeless: bool = False, hint: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.sent = sent
        self.hopeless = hopeless
        self.hint = hint


@dataclass(slots=True)
class HttpConnection:
    """A connection that is opened on first use, and again after an error.

    Attributes:
        key: sent as a bearer token; empty for none.
        seconds: to wait for an answer.
        reopened: how often the server had closed the connection between two requests: it may have been restarted.
    """

    url: BaseUrl
    key: str = field(repr=False)
    seconds: float
    context: ssl.SSLContext | None = None
    reopened: int = 0
    _opened_at: float = 0.0
    _open: http.client.HTTPConnection | None = None
    _used: bool = False
    _aborted: bool = False

    def send(self, method: str, path: str, body: bytes | None = None) -> HttpReply:
        """Send a request to a path below the base URL, or to an absolute one of the same host, and read the whole answer.

        Raises:
            ConnectionLostError: there is none.
        """
        if self._open is not None and self._used:
            try:
                return self._exchange(self._open, method, path, body)
            except (http.client.RemoteDisconnected, ConnectionError) as error:
                if self._aborted:
                    raise self._lost(error, sent=True) from error
                self.reopened += 1
                self.close()  # the server had closed the connection while it was idle
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._lost(error, sent=True) from error
        try:
            fresh = self._connect()
        except (OSError, ValueError) as error:
            raise self._lost(error, sent=False) from error
        if self._aborted:
            raise self._lost(ConnectionAbortedError(), sent=False)
        try:
            return self._exchange(fresh, method, path, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._lost(error, sent=True) from error

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None

    def abort(self) -> None:
        """End what the thread of this connection waits for; called from another thread."""
        self._aborted = True
        opened = self._open
        connected = opened.sock if opened is not None else None
        if connected is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self.url.host, self.url.port
        fresh: http.client.HTTPConnection
        if self.url.scheme == "https":
            fresh = http.client.HTTPSConnection(
                host, port, timeout=CONNECT_SECONDS, context=self.context
            )
        else:
            fresh = http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
        fresh.connect()
        fresh.sock.settimeout(self.seconds)
        self._open, self._used, self._opened_at = fresh, False, time.monotonic()
        return fresh

    def _exchange(
        self, opened: http.client.HTTPConnection, method: str, path: str, body: bytes | None
    ) -> HttpReply:
        until = time.monotonic() + self.seconds
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if body is not None:
            headers["content-type"] = "application/json"
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        opened.request(method, self.url.path + path, body=body, headers=headers)
        reply = opened.getresponse()
        content = _whole_body(reply, until)
        announced = reply.headers.get("content-length", "")
        if announced.isdigit() and method != "HEAD" and len(content) < int(announced):
            raise http.client.IncompleteRead(b"")
        self._used = True
        found = {name.lower(): value for name, value in reply.headers.items()}
        if reply.will_close or self._is_old():
            self.close()
        return HttpReply(reply.status, found, content)

    def _is_old(self) -> bool:
        return self.url.scheme == "http" and time.monotonic() - self._opened_at > _SECONDS_KEPT

    def _lost(self, error: Exception, *, sent: bool) -> ConnectionLostError:
        self.close()
        hopeless = isinstance(error, ssl.SSLError | socket.gaierror)
        hopeless = hopeless and getattr(error, "errno", None) != socket.EAI_AGAIN
        hint = certificate_hint(error) if isinstance(error, ssl.SSLCertVerificationError) else ""
        return ConnectionLostError(_reason(error), sent=sent, hopeless=hopeless, hint=hint)


def _whole_body(reply: http.client.HTTPResponse, until: float) -> bytes:
    """The body, read until a time: each byte that arrives starts the timeout of the socket anew.

    Raises:
        TimeoutError: the body has not ended by then.
        ValueError: it is too long.
    """
    content = bytearray()
    while chunk := reply.read1(_CHUNK_BYTES):
        content += chunk
        if len(content) > _MOST_BYTES:
            raise ValueError("an answer of more than 64 MB")
        if time.monotonic() > until:
            raise TimeoutError
    reply.close()  # the connection stays open
    return bytes(content)


CLOSED = "the connection was closed"
"""Why there is no answer; also of a server that expects https."""
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (ssl.SSLError, "the server does not speak TLS on this port"),
    (TimeoutError, "timeout"),
    (socket.gaierror, "the host name is unknown"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionError, CLOSED),
    (http.client.IncompleteRead, "the answer is incomplete"),
    (http.client.HTTPException, "the answer is not HTTP"),
)


def _reason(error: Exception) -> str:
    """The error in a few words, without text that a server sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message.rstrip('.')}"
    known = (words for kind, words in _REASONS if isinstance(error, kind))
    other = error.strerror if isinstance(error, OSError) else None
    return next(known, other or "the answer cannot be read")


_OUTDATED = (9, 10)
"""OpenSSL's verify codes of a certificate that is not valid yet, and of one that has expired."""
_OTHER_HOST = (62, 63, 64)
"""Of a certificate of another host or address."""


def certificate_hint(error: ssl.SSLCertVerificationError) -> str:
    """What to do about a certificate that OpenSSL rejects."""
    if error.verify_code in _OUTDATED:
        return "Renew the server's certificate, and check the date of this machine."
    if error.verify_code in _OTHER_HOST:
        return "Write base_url with a host that the certificate names."
    return (
        "Set SSL_CERT_FILE to a PEM file with the certificate of the server or of its issuer: "
        "SSL_CERT_FILE=server.pem batchgen …"
    )
