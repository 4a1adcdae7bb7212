"""The engine against servers that fail in every way: each row ends once, with its own answer, or the run ends in a state
that can be resumed.
"""

import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from batchgen.engines.openai.openai_engine import OpenaiEngine
from batchgen.engines.openai.row_exchange import Endpoint
from batchgen.engines.openai.transport.base_url import parse_base_url
from batchgen.engines.openai.transport.concurrency_limit import ConcurrencyLimit
from batchgen.engines.openai.transport.server_fleet import Patience, ServerFleet, ServerState
from batchgen.errors import ModelError, UnavailableError
from batchgen.records import Completion, Continuation, Message, Prompt, Request, ResolvedDecoding
from tests.engines.openai.fake_server import (
    FakeServer,
    Seen,
    Sent,
    answer,
    error,
    say,
    scored,
    serving,
    slowly,
)

QUICK = Patience(give_up=20.0, answer=5.0, first=0.01, longest=0.05)
SECRET = "SECRET"


def request(index: int, text: str = "", **decoding: object) -> Request:
    prompt = Prompt(index, str(index), (Message("user", text or f"row {index}"),))
    settings = ResolvedDecoding(max_new_tokens=8, **decoding)  # type: ignore[arg-type]
    return Request(index, 0, (7, index), settings, seed=index, prompt=prompt)


def requests(count: int) -> list[Request]:
    return [request(index) for index in range(count)]


def engine(
    *servers: FakeServer,
    patience: Patience = QUICK,
    tokens: bool = False,
    fixed: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    key: str = "",
    away: bool = False,
) -> OpenaiEngine:
    """The engine; `away`: the first server did not answer when the run began."""
    urls = [parse_base_url(server.url) for server in servers]

    def fleet() -> ServerFleet:
        states = [
            ServerState(url, ConcurrencyLimit(fixed), is_away=away and url is urls[0])
            for url in urls
        ]
        return ServerFleet(states, patience)

    return OpenaiEngine(Endpoint("m", tokens, key), fleet, facts={}, should_stop=should_stop)


def answered(one: OpenaiEngine, count: int) -> dict[int, Completion]:
    found = list(one.generate(requests(count)))
    assert Counter(c.index for c in found) == Counter(range(count)), "each row ends once"
    for completion in found:
        if completion.failure is None:
            assert completion.text == f"re: row {completion.index}"
        else:
            assert SECRET not in completion.failure.message
    return {completion.index: completion for completion in found}


def codes(found: dict[int, Completion]) -> dict[int, str]:
    return {index: one.failure.code for index, one in found.items() if one.failure}


def once(fault: Sent) -> Callable[[Seen], Sent]:
    """The fault at the first try of every third row."""
    return lambda seen: (
        fault if seen.number == 1 and int(seen.prompt.split()[1]) % 3 == 0 else say(seen)
    )


FAULTS = {
    "408": error(408),
    "409": error(409),
    "429": error(429),
    "429 with a wait": error(429, retry_after="0.02"),
    "429 with a date": error(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    "429 with nonsense": error(429, retry_after="soon"),
    "500": error(500),
    "502": error(502),
    "503": error(503),
    "504": error(504),
    "529": error(529),
    "520": error(520),
    "reset before a byte": Sent(cut=0),
    "half a body": Sent(content={"choices": []}, cut=5),
    "a page": Sent(raw=b"<html>gateway</html>"),
    "a page with 502": Sent(502, raw=b"<html>gateway</html>"),
    "no JSON": Sent(raw=b"busy"),
    "a list": Sent(content=[1]),
    "an empty body": Sent(raw=b""),
    "an error with 200": Sent(content={"error": {"message": "overloaded"}}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_costs_no_row(name: str) -> None:
    with serving(once(FAULTS[name])) as server:
        one = engine(server)
        assert codes(answered(one, 12)) == {}
        assert sum(server.seen.values()) == 16


REFUSALS = {400: 400, 413: 413, 415: 415, 422: 422}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refused_row_fails_alone_and_at_once(status: int) -> None:
    def act(seen: Seen) -> Sent:
        return error(status) if seen.prompt == "row 3" else say(seen)

    with serving(act) as server:
        found = answered(engine(server), 8)
        assert codes(found) == {3: "request_refused"}
        assert f"HTTP {status}" in found[3].failure.message  # type: ignore[union-attr]
        assert server.seen["row 3"] == 1


ANSWERS: dict[str, tuple[Sent, str]] = {
    "content filter": (answer("x", finish="content_filter"), "server_error"),
    "tool calls": (answer("x", finish="tool_calls"), "server_error"),
    "no reason": (answer("x", finish=None), "server_error"),
    "no choices": (Sent(content={"choices": []}), "server_error"),
    "two choices": (Sent(content={"choices": [{}, {}]}), "server_error"),
    "a choice that is a text": (Sent(content={"choices": ["x"]}), "server_error"),
    "choices that are a text": (Sent(content={"choices": "x"}), "server_error"),
    "no text": (Sent(content={"choices": [{"finish_reason": "stop"}]}), "server_error"),
    "content null": (
        Sent(content={"choices": [{"finish_reason": "stop", "message": {"content": None}}]}),
        "server_error",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_without_text_or_end_is_a_failed_row(name: str) -> None:
    sent, code = ANSWERS[name]
    with serving(lambda seen: sent if seen.prompt == "row 1" else say(seen)) as server:
        assert codes(answered(engine(server), 4)) == {1: code}


@pytest.mark.timing
@pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 301, 307])
def test_what_concerns_every_row_ends_the_run_at_once(status: int) -> None:
    sent = error(status, location="http://127.0.0.1:1/v1")
    with serving(lambda _: sent) as server:
        began = time.monotonic()
        with pytest.raises(ModelError, match=f"HTTP {status}") as caught:
            list(engine(server, key="KEY7").generate(requests(20)))
        assert time.monotonic() - began < 2
        assert caught.value.exit_code == 5
        assert SECRET not in str(caught.value)
        assert "KEY7" not in str(caught.value)
        assert server.headers[0]["authorization"] == "Bearer KEY7"


def test_first_rows_that_are_all_refused_end_the_run_and_none_fails() -> None:
    with serving(lambda _: error(400)) as server:
        found = engine(server).generate(requests(60))
        with pytest.raises(ModelError, match="first 20 rows were all refused"):
            next(found)
        assert set(codes(answered(engine(server), 5)).values()) == {"request_refused"}


def test_a_row_that_always_breaks_the_server_fails_after_its_tries() -> None:
    def act(seen: Seen) -> Sent:
        return error(500) if seen.prompt == "row 2" else say(seen)

    with serving(act) as server:
        assert codes(answered(engine(server), 6)) == {2: "server_error"}
        assert server.seen["row 2"] == 6
        # The last row of a run, alone: a short request shows that the server works.
        alone = list(engine(server).generate([request(2)]))
        assert [one.failure.code for one in alone if one.failure] == ["server_error"]
        # On a slow machine row 2 was alone among the first six as well.
        assert server.seen["Hello"] >= 1


@pytest.mark.parametrize("name", ["a page", "504", "no JSON"])
def test_a_row_that_alone_gets_no_answer_fails(name: str) -> None:
    with serving(lambda s: FAULTS[name] if s.prompt == "row 2" else say(s)) as server:
        assert codes(answered(engine(server), 6)) == {2: "server_error"}
        assert server.seen["row 2"] >= 8


def test_a_server_that_sends_pages_beside_one_that_answers_costs_no_row() -> None:
    with serving(lambda _: FAULTS["a page"]) as broken, serving() as good:
        assert codes(answered(engine(broken, good), 1)) == {}
        assert codes(answered(engine(broken, good), 100)) == {}


@pytest.mark.timing
@pytest.mark.parametrize("timeout", [0.4, 600.0])
def test_a_silent_server_ends_the_run_whatever_the_timeout_of_an_answer(timeout: float) -> None:
    patience = Patience(give_up=0.2, answer=timeout, first=0.01, longest=0.05)
    with serving(lambda seen: say(slept(seen))) as server:
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=r"timeout|no reply"):
            list(engine(server, patience=patience).generate(requests(3)))
        assert sum(server.seen.values()) == 3
        assert time.monotonic() - began < 5


DOWN = {
    "503": lambda _: error(503),
    "500": lambda _: error(500),
    "a page": lambda _: Sent(raw=b"<html>"),
    "reset": lambda _: Sent(cut=0),
    "an error with 200": lambda _: FAULTS["an error with 200"],
    "an empty body": lambda _: FAULTS["an empty body"],
}


@pytest.mark.parametrize("name", DOWN)
def test_a_server_without_good_answers_ends_the_run_and_no_row_fails(name: str) -> None:
    with serving(DOWN[name]) as server:
        patience = Patience(give_up=0.4, answer=5.0, first=0.01, longest=0.05)
        found = engine(server, patience=patience).generate(requests(20))
        with pytest.raises(UnavailableError, match="no good answer") as caught:
            next(found)
        assert caught.value.exit_code == 75


def test_a_server_that_is_killed_and_restarted_loses_no_row() -> None:
    with serving(slowly(say, 0.01)) as server:

        def kill_and_restart() -> None:
            time.sleep(0.15)
            server.stop()
            time.sleep(0.3)
            server.start()

        killer = threading.Thread(target=kill_and_restart)
        killer.start()
        one = engine(server, fixed=8)
        assert codes(answered(one, 300)) == {}
        killer.join()
        assert one.facts()["retries"] != 0


def test_a_mixture_of_faults() -> None:
    rng, lock = random.Random(3), threading.Lock()

    def act(seen: Seen) -> Sent:
        with lock:
            dice = rng.random()
        row = int(seen.prompt.split()[1])
        if row % 97 == 13:
            return error(400)
        if seen.in_flight > 10:
            return error(429, retry_after="0.01")
        faults = [error(503), Sent(cut=0), Sent(content={"choices": []}, cut=9), FAULTS["a page"]]
        return faults[int(dice * 100) % 4] if dice < 0.12 else say(seen)

    with serving(slowly(act, 0.002)) as server:
        found = answered(engine(server), 300)
        assert codes(found) == dict.fromkeys([13, 110, 207], "request_refused")


def test_rows_go_to_the_least_busy_server_and_one_that_dies_loses_none() -> None:
    with serving(slowly(say, 0.002)) as quick, serving(slowly(say, 0.04)) as slow:
        one = engine(quick, slow, fixed=4)
        assert codes(answered(one, 200)) == {}
        assert sum(quick.seen.values()) > 3 * sum(slow.seen.values()) > 0
        timer = threading.Timer(0.05, slow.stop)
        timer.start()
        assert codes(answered(one, 200)) == {}
        timer.join()


@pytest.mark.timing
def test_a_server_that_was_away_at_the_start_gets_rows_once_it_is_back() -> None:
    with serving() as first, serving() as second:
        first.stop()

        def act(seen: Seen) -> Sent:
            if seen.prompt == "row 9" and first._http is None:
                first.start()
            time.sleep(0.02)
            return say(seen)

        second.act = act
        assert codes(answered(engine(first, second, fixed=2, away=True), 100)) == {}
        assert sum(first.seen.values()) > 20
        assert sum(first.seen.values()) + sum(second.seen.values()) == 100


def serve_connections(listener: socket.socket, reply: bytes) -> None:
    """Serve one connection after another, each until it is closed or idle for 5 s, as a thread of llama.cpp's server does."""
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(reply)}\r\n\r\n".encode()
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the test has shut it down
            return
        connection.settimeout(5.0)
        with suppress(OSError), connection, connection.makefile("rb") as sent:
            while sent.readline():
                sent.read(int(http.client.parse_headers(sent)["content-length"]))
                connection.sendall(head + reply)


@pytest.mark.timing
def test_idle_connections_do_not_keep_others_from_a_server_with_few_threads() -> None:
    reply = json.dumps(answer("x").content).encode()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [
            threading.Thread(target=serve_connections, args=(listener, reply)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        url = parse_base_url(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        one = OpenaiEngine(
            Endpoint("m", False, ""),
            lambda: ServerFleet([ServerState(url, ConcurrencyLimit(6))], QUICK),
            facts={},
            should_stop=lambda: False,
        )
        began = time.monotonic()
        try:
            assert len(list(one.generate(requests(6)))) == 6
            assert time.monotonic() - began < 4
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def test_requests_are_pulled_only_as_there_is_room_and_closing_ends_those_in_flight() -> None:
    pulled = 0

    def source() -> Iterator[Request]:
        nonlocal pulled
        for one in requests(100):
            pulled += 1
            yield one

    with serving(slowly(lambda s: say(s) if s.prompt == "row 0" else say(slept(s)), 0)) as server:
        before = threading.active_count()
        found: Any = engine(server, fixed=3).generate(source())
        assert next(found).index == 0
        assert pulled == 3
        began = time.monotonic()
        found.close()
        assert time.monotonic() - began < 1
        deadline = time.monotonic() + 5
        while threading.active_count() > before + 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pulled == 3


class SteppedFleet(ServerFleet):
    """Its room grows at every second look at it, as that of a fleet whose limit doubles at any moment."""

    looks = 0

    @property
    def room(self) -> int:
        self.looks += 1
        return self.looks // 2 + 1


def test_room_that_grows_while_rows_are_pulled_does_not_end_the_input() -> None:
    with serving(slowly(say, 0.5)) as server:  # no answer while the room is looked at
        state = ServerState(parse_base_url(server.url), ConcurrencyLimit(64))
        one = OpenaiEngine(
            Endpoint("m", False, ""),
            lambda: SteppedFleet([state], QUICK),
            facts={},
            should_stop=lambda: False,
        )
        answered(one, 8)


def slept(seen: Seen) -> Seen:
    time.sleep(1.0)
    return seen


@pytest.mark.timing
def test_a_stop_ends_the_rows_in_flight() -> None:
    stop, began = threading.Event(), 0.0
    with serving(lambda s: say(s) if s.prompt < "row 3" else say(slept(s))) as server:
        one = engine(server, fixed=4, should_stop=stop.is_set)
        found = []
        for completion in one.generate(requests(50)):
            found.append(completion)
            if len(found) == 3:
                stop.set()
                began = time.monotonic()
        assert len(found) == 3
        assert time.monotonic() - began < 0.9


def test_what_is_sent() -> None:
    with serving() as server:
        sampled = request(5, "héllo", temperature=0.7, top_p=0.9, stop_strings=("x",))
        list(engine(server).generate([sampled, request(6)]))
        list(engine(server, tokens=True).generate([sampled]))
    by_prompt = {str(body.get("messages") or body["prompt"]): body for body in server.bodies}
    assert by_prompt[str([{"role": "user", "content": "héllo"}])] == {
        "model": "m",
        "messages": [{"role": "user", "content": "héllo"}],
        "max_tokens": 8,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 5,
        "stop": ["x"],
        "stream": False,
    }
    assert by_prompt["[7, 5]"]["prompt"] == [7, 5]
    greedy = by_prompt[str([{"role": "user", "content": "row 6"}])]
    assert not {"top_p", "top_k", "seed", "stop"} & greedy.keys()


def test_tokens_are_those_that_the_server_counts() -> None:
    with serving() as server:
        (one,) = engine(server).generate([request(1)])
    assert (one.input_tokens, one.new_tokens, one.finish_reason) == (5, 3, "stop")


def test_reasoning_that_the_server_splits_off_is_kept() -> None:
    message = {"content": "4", "reasoning_content": "2 + 2"}
    sent = Sent(content={"choices": [{"finish_reason": "stop", "message": message}]})
    with serving(lambda _: sent) as server:
        (one,) = engine(server).generate([request(1)])
    assert one.text == "<think>2 + 2</think>4"


def test_the_same_engine_answers_again() -> None:
    with serving() as server:
        one = engine(server)
        assert codes(answered(one, 3)) == {}
        assert codes(answered(one, 3)) == {}
        assert list(one.generate([])) == []
        assert one.facts()["requests"] == 6


def listed(logprobs: dict[int, float]) -> Sent:
    """The most likely tokens as llama.cpp lists them."""
    top = [{"id": token, "logprob": value} for token, value in logprobs.items()]
    choice = {
        "text": "x",
        "finish_reason": "length",
        "logprobs": {"content": [{"top_logprobs": top}]},
    }
    return Sent(content={"choices": [choice]})


def named(logprobs: dict[int, float]) -> Sent:
    """The same as vLLM lists them."""
    top = [{f"token_id:{token}": value for token, value in logprobs.items()}]
    choice = {"text": "x", "finish_reason": "length", "logprobs": {"top_logprobs": top}}
    return Sent(content={"choices": [choice]})


@pytest.mark.parametrize("form", [listed, named])
@pytest.mark.parametrize("most", [1000, 20])
def test_labels_are_scored_by_the_tokens_that_the_server_lists(
    form: Callable[[dict[int, float]], Sent], most: int
) -> None:
    after = {"7,8": {1: -0.5, 2: -1.5}, "7,8,2": {3: -0.25, 4: -2.0}}

    def act(seen: Seen) -> Sent:
        top = seen.body.get("logprobs", 0)
        if (
            top <= 1
        ):  # log-probabilities of the prompt are requested first, which this server ignores
            return answer("x", chat=False)
        return error(400) if top > most else form(after[seen.prompt])

    with serving(act) as server:
        asked = [
            Continuation(0, (7, 8), (1,)),
            Continuation(1, (7, 8), (2, 3)),
            Continuation(2, (7, 8), (9,)),
        ]
        found = {one.index: one for one in engine(server, tokens=True).likelihoods(asked)}
        assert server.seen["7,8,2"] == 1
    assert (found[0].logprobs, found[0].greedy) == ((-0.5,), True)
    assert (found[1].logprobs, found[1].greedy) == ((-1.5, -0.25), False)
    assert found[2].failure is not None
    assert "not among the 2 most likely" in found[2].failure.message


@pytest.mark.parametrize("field", ["prompt_logprobs", "echo"])
def test_texts_are_scored_where_the_server_returns_the_log_probabilities_of_a_prompt(
    field: str,
) -> None:
    def act(seen: Seen) -> Sent:
        ids = seen.body["prompt"]
        if field not in seen.body:
            return answer("x", chat=False)
        return error(400) if 99 in ids else scored(ids[:-1] if 98 in ids else ids, seen.body)

    with serving(act) as server:
        asked = [
            Continuation(0, (7, 8), (4,)),
            Continuation(1, (7, 8), (2, 3)),
            Continuation(2, (7,), (99,)),
            Continuation(3, (98,), (1, 2)),
        ]
        found = {one.index: one for one in engine(server, tokens=True).likelihoods(asked)}
    assert (found[0].logprobs, found[0].greedy) == ((-1.0,), True)
    assert (found[1].logprobs, found[1].greedy) == ((-0.5, -0.75), False)
    codes = [found[n].failure.code for n in (2, 3)]  # type: ignore[union-attr]
    assert codes == ["request_refused", "server_error"]


def test_a_first_text_that_is_too_long_for_the_server_fails_alone() -> None:
    def act(seen: Seen) -> Sent:
        ids = seen.body["prompt"]
        return error(400) if len(ids) > 100 else scored(ids, seen.body)

    with serving(act) as server:
        asked = [Continuation(0, (7,) * 90, (4,) * 90), Continuation(1, (7, 8), (4,))]
        found = {one.index: one for one in engine(server, tokens=True).likelihoods(asked)}
    assert found[0].failure is not None
    assert found[0].failure.code == "request_refused"
    assert found[1].logprobs == (-1.0,)


def test_a_stop_before_the_first_likelihood() -> None:
    with serving() as server:
        one = engine(server, tokens=True, should_stop=lambda: True)
        assert list(one.likelihoods([Continuation(0, (7,), (1,))])) == []


def test_a_server_that_lists_no_token_ids_cannot_judge() -> None:
    with serving() as server, pytest.raises(ModelError, match="by token id"):
        list(engine(server, tokens=True).likelihoods([Continuation(0, (7,), (1,))]))
