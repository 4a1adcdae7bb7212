"""Waiting, growing and addresses, without a connection; bodies that arrive slowly."""

import http.client
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from batchgen.engines.openai.transport.base_url import parse_base_url
from batchgen.engines.openai.transport.concurrency_limit import LEAST, MOST, ConcurrencyLimit
from batchgen.engines.openai.transport.http_connection import HttpConnection, HttpReply, _whole_body
from batchgen.engines.openai.transport.retry_policy import backoff, judge_reply, retry_after
from batchgen.engines.openai.transport.server_fleet import Patience, ServerFleet, ServerState
from batchgen.errors import AddressError, UnavailableError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def answer(limit: ConcurrencyLimit, clock: Clock, count: int, slots: int) -> None:
    """Answers of a server that computes `slots` rows at once, a second each."""
    for _ in range(count):
        clock.now += 1 / min(limit.now, slots)
        limit.add_answer()


def test_the_limit_doubles_while_that_brings_more_answers() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(clock=clock)
    assert limit.now == LEAST
    answer(limit, clock, 2000, slots=64)
    assert limit.now == 128  # one doubling that brought nothing


def test_the_limit_has_an_end() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(clock=clock)
    answer(limit, clock, 20_000, slots=10_000)
    assert limit.now == MOST


def test_refusals_halve_the_limit_once_a_second_and_it_grows_slowly_again() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(clock=clock)
    for _ in range(5):
        limit.add_refusal()
    assert limit.now == LEAST // 2
    answer(limit, clock, LEAST // 2, slots=64)
    assert limit.now == LEAST // 2 + 1
    clock.now += 5
    limit.add_refusal()
    assert limit.now == LEAST // 4


def test_slots_that_a_server_states_decide_the_limit() -> None:
    clock = Clock()
    limit = ConcurrencyLimit(clock=clock, slots=40)
    answer(limit, clock, 2000, slots=40)
    assert limit.now == 80
    limit.add_refusal()
    assert limit.now == 40
    assert ConcurrencyLimit(slots=1000).now == MOST
    assert ConcurrencyLimit(3, slots=40).now == 3


def test_a_fixed_limit_stays() -> None:
    limit = ConcurrencyLimit(3)
    limit.add_refusal()
    limit.add_answer()
    assert limit.now == 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("1e9", 3600.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, now=60.0) == seconds


def test_pauses_grow_to_a_limit() -> None:
    assert all(0 <= backoff(n, first=0.5, longest=60.0) <= 60.0 for n in range(2000))
    assert max(backoff(1, first=0.5, longest=60.0) for _ in range(200)) <= 1.0


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b"{}", "answer"),
        (200, b" <html>", "away"),
        (302, b"", "fatal"),
        (401, b"", "fatal"),
        (418, b"", "refused"),
        (501, b"", "refused"),
        (522, b"", "away"),
    ],
)
def test_what_an_answer_means(status: int, body: bytes, verdict: str) -> None:
    assert judge_reply(HttpReply(status, {}, body)) == verdict


@pytest.mark.parametrize(
    ("text", "shown", "local"),
    [
        ("http://localhost:8000/v1/", "http://localhost:8000/v1", True),
        ("HTTPS://API.example.com:443/v1", "https://api.example.com/v1", False),
        ("http://[fe80::1]:80/v1", "http://[fe80::1]/v1", True),
        ("http://172.16.0.9", "http://172.16.0.9", True),
        ("http://gpu.lan/v1", "http://gpu.lan/v1", True),
        ("http://172.99.0.9/v1", "http://172.99.0.9/v1", False),
    ],
)
def test_addresses(text: str, shown: str, local: bool) -> None:
    url = parse_base_url(text)
    assert (str(url), url.is_local) == (shown, local)


@pytest.mark.parametrize("text", ["http://host:99999/v1", "http://[::1/v1", "http:///v1", "x"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(AddressError):
        parse_base_url(text)


def test_servers_that_want_to_be_left_alone_for_too_long_end_the_run() -> None:
    server = ServerState(parse_base_url("http://127.0.0.1:1/v1"), ConcurrencyLimit())
    fleet = ServerFleet([server], Patience(give_up=0.01))
    fleet.add_refusal(server, "HTTP 429", 3600.0)
    fleet.add_answer(server)  # of a request that was in flight
    with pytest.raises(UnavailableError, match="HTTP 429"):
        fleet.acquire()


def reply_of(ours: socket.socket) -> http.client.HTTPResponse:
    ours.settimeout(5.0)
    reply = http.client.HTTPResponse(ours)
    reply.begin()
    return reply


def test_a_body_is_read_until_a_time_whenever_its_bytes_arrive() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab")
        with pytest.raises(TimeoutError):
            _whole_body(reply_of(ours), time.monotonic() - 1.0)


class _OneConnection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(0.3)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


@pytest.mark.slow
def test_no_connection_keeps_the_others_from_a_server_with_a_thread_for_each() -> None:
    with HTTPServer(("127.0.0.1", 0), _OneConnection) as server:  # one connection at a time
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = parse_base_url(f"http://127.0.0.1:{server.server_address[1]}/v1")
        order: list[int] = []

        def send(number: int, requests: int) -> None:
            connection = HttpConnection(url, "", 30.0)
            for _ in range(requests):
                connection.send("POST", "/x", b"{}")
                order.append(number)
            connection.close()

        threads = [threading.Thread(target=send, args=job) for job in ((0, 12), (1, 1))]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        server.shutdown()
    assert order.index(1) < 8, "the second connection waits for the end of the first"
