"""A real S3 server (moto, in a process of its own), and a proxy in front of it that injects faults.

    test ─obstore─> FaultyStore (this process) ─http─> moto.server

Rules are consulted in order; the first that fits a request and has a count left decides what happens to it.
"""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote
from urllib.request import Request, urlopen
from uuid import uuid4

KEY_ID, SECRET = "AKIACANARYID", "CANARY-secret-key"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
}
_AUTHORIZATION = (
    f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=00"
)
Fault = Literal["lose the answer", "ignore conditions", "cut the body", "answer", "none"]
_SERVE = """
import sys, logging
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def moto_server() -> Iterator[int]:
    """The port of a new server; it ends with the block, or with this process."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


@dataclass(slots=True)
class Rule:
    """What happens to the next `count` requests whose method and key fit.

    Attributes:
        key: part of the path of the request.
        status, code: of the answer, for the fault "answer".
        then: called before the request is passed on.
    """

    fault: Fault
    method: str = ""
    key: str = ""
    count: int = 1
    status: int = 503
    code: str = "SlowDown"
    then: Callable[[], None] = field(default=lambda: None)


@dataclass(slots=True)
class FaultyStore:
    """An S3 store with one new bucket, and the rules of its faults."""

    url: str
    bucket: str
    rules: list[Rule]
    requests: list[tuple[str, str]]
    """Method and path of every request."""
    direct: str
    """The address of the server without faults."""

    @property
    def environment(self) -> dict[str, str]:
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.url}

    def address(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def put(self, key: str, content: bytes, *, sealed: bool = False) -> None:
        """Write an object; with its hash in the metadata if `sealed`."""
        self._direct("PUT", f"/{key}", content, sealed=sealed)

    def get(self, key: str) -> bytes:
        return self._direct("GET", f"/{key}")

    def delete(self, key: str) -> None:
        self._direct("DELETE", f"/{key}")

    def listing(self) -> list[str]:
        """The keys of all objects, sorted."""
        text = self._direct("GET", "?list-type=2").decode()
        return sorted(part.split("</Key>")[0] for part in text.split("<Key>")[1:])

    def _direct(
        self, method: str, path: str, content: bytes | None = None, *, sealed: bool = False
    ) -> bytes:
        """A request without the proxy; the server checks no signature, but rejects requests that have none."""
        headers = {"Content-Type": "application/octet-stream", "Authorization": _AUTHORIZATION}
        if sealed:
            headers["x-amz-meta-sha256"] = hashlib.sha256(content or b"").hexdigest()
        request = Request(f"{self.direct}/{self.bucket}{path}", content, headers, method=method)
        with urlopen(request) as answer:
            body: bytes = answer.read()
            return body

    def sent(self, method: str, part: str = "") -> int:
        """The number of requests of a method whose path contains `part`."""
        return sum(one == method and part in path for one, path in self.requests)


class _Proxy(ThreadingHTTPServer):
    """Passes requests on to the server at `target`, unless a rule fits."""

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.rules: list[Rule] = []
        self.requests: list[tuple[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path)
        self.server.requests.append((self.command, path))
        rule = _take(self.server.rules, self.command, path) or Rule("none")
        rule.then()
        if rule.fault == "answer":
            self._answer(rule.status, {}, _error(rule.code))
            return
        answer, content = self._pass_on(body, with_conditions=rule.fault != "ignore conditions")
        if rule.fault in ("lose the answer", "cut the body"):
            self.close_connection = True
        if rule.fault != "lose the answer":
            self._answer(answer.status, _kept(answer), content, cut=rule.fault == "cut the body")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815

    def _pass_on(self, body: bytes, *, with_conditions: bool) -> tuple[HTTPResponse, bytes]:
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() != "connection"
            and (with_conditions or not name.lower().startswith("if-"))
        }
        with closing(HTTPConnection("127.0.0.1", self.server.target, timeout=30)) as connection:
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            return answer, answer.read()

    def _answer(
        self, status: int, headers: Mapping[str, str], content: bytes, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@contextmanager
def faulty_store(port: int) -> Iterator[FaultyStore]:
    """A new bucket of the server at `port`, behind a proxy."""
    proxy = _Proxy(port)
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    direct, bucket = f"http://127.0.0.1:{port}", f"test-{uuid4().hex[:12]}"
    urlopen(Request(f"{direct}/{bucket}", method="PUT")).close()
    try:
        url = f"http://127.0.0.1:{proxy.server_address[1]}"
        yield FaultyStore(url, bucket, proxy.rules, proxy.requests, direct)
    finally:
        proxy.shutdown()
        proxy.server_close()


def _take(rules: list[Rule], method: str, path: str) -> Rule | None:
    for rule in rules:
        if rule.count > 0 and rule.method in ("", method) and rule.key in path:
            rule.count -= 1
            return rule
    return None


def _kept(answer: HTTPResponse) -> dict[str, str]:
    """The headers of an answer; those about the connection are the proxy's own, except the length of a HEAD."""
    own = {"connection", "transfer-encoding", "server", "date"}
    own |= set() if answer._method == "HEAD" else {"content-length"}  # type: ignore[attr-defined]
    return {name: value for name, value in answer.getheaders() if name.lower() not in own}


def _error(code: str) -> bytes:
    """The body of an error as S3 writes it: with a key id, which no message may repeat."""
    return (
        f"<Error><Code>{code}</Code><Message>no</Message><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId>"
        f"<StringToSign>{SECRET}</StringToSign></Error>"
    ).encode()
