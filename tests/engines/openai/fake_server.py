"""A server with OpenAI's HTTP API on a real socket of this machine, which answers, fails and dies as a test wants."""

import itertools
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from batchgen.engines.openai.probing.dialect_probe import _PROMPT, _SHORT_PROMPT, _TEXT
from batchgen.engines.openai.probing.form_probe import _PROMPT as _FORM_PROMPT

Headers = Mapping[str, str]
Act = Callable[["Seen"], "Sent"]


@dataclass(frozen=True)
class Seen:
    """A request: its number for this prompt (from 1), how many others are in flight, and its content."""

    path: str
    headers: Headers
    body: dict[str, Any]
    prompt: str
    number: int
    in_flight: int


@dataclass(frozen=True)
class Sent:
    """What the server sends. `cut`: only so many bytes, then the connection is reset."""

    status: int = 200
    content: object = None
    headers: Headers = field(default_factory=dict)
    raw: bytes | None = None
    cut: int | None = None


def prompt_of(body: Mapping[str, Any]) -> str:
    if "messages" in body:
        return str(body["messages"][-1]["content"])
    prompt = body["prompt"]
    return prompt if isinstance(prompt, str) else ",".join(map(str, prompt))


def answer(text: str, *, chat: bool = True, finish: str | None = "stop", **more: Any) -> Sent:
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    usage = {"prompt_tokens": 5, "completion_tokens": len(text.split())}
    return Sent(content={"choices": [choice], "usage": usage} | more)


def say(seen: Seen) -> Sent:
    """Answer `re: PROMPT`."""
    return answer(f"re: {seen.prompt}", chat=seen.path.endswith("/chat/completions"))


SETTINGS = frozenset(
    {
        *("temperature", "seed", "top_p", "top_k", "min_p"),
        *("repetition_penalty", "stop", "min_tokens", "logprobs"),
    }
)
WORDS = "the sea is calm and the wind is cold tonight"


def probed(body: Mapping[str, Any], honored: frozenset[str]) -> Sent:
    """The answer of a server that honors some settings to a request of a probe."""
    heeded = {name: value for name, value in body.items() if name in honored}
    text, tokens = WORDS, 10
    fixed = heeded.get("top_k") == 1 or heeded.get("min_p") == 1 or heeded.get("top_p", 1) < 0.1
    if heeded.get("temperature", 0) > 0 and not fixed:
        text += f" {heeded['seed'] if 'seed' in heeded else next(_COUNTER)}"
    if heeded.get("repetition_penalty", 1) > 1 or heeded.get("repeat_penalty", 1) > 1:
        text = "sea"
    if "stop" in heeded:
        text = text.partition(heeded["stop"][0])[0]
    if "min_tokens" in heeded:
        tokens = heeded["min_tokens"]
    sent = answer(text, chat="messages" in body)
    content: Any = sent.content
    content["usage"]["completion_tokens"] = tokens
    if form := FORMS.get(json.dumps({name: heeded[name] for name in FORM_FIELDS & set(heeded)})):
        content["choices"][0]["message" if "messages" in body else "text"] = (
            {"content": form} if "messages" in body else form
        )
    if (heeded.get("echo") and "logprobs" in body) or "prompt_logprobs" in heeded:
        return scored([11] * 9, body)
    if "logprobs" in heeded:
        listed = [{"id": token, "logprob": -1.0 - token} for token in range(3)]
        entry = {"logprob": -0.5, "top_logprobs": listed}
        content["choices"][0]["logprobs"] = {"content": [entry]}
    return sent


def scored(tokens: Sequence[int], body: Mapping[str, Any]) -> Sent:
    """Log-probabilities of a prompt as vLLM returns them: -token / 4; even tokens are the most likely ones."""
    if "prompt_logprobs" in body:
        listed = [{str(t): {"logprob": -t / 4, "rank": 1 + t % 2}} for t in tokens[1:]]
        found: dict[str, Any] = {"prompt_logprobs": [None, *listed]}
    else:
        own = [None, *(-t / 4 for t in tokens[1:]), -0.5]
        top = [{"x": -t / 4 if t % 2 == 0 else 0.0} for t in tokens[1:]]
        found = {"logprobs": {"token_logprobs": own, "top_logprobs": [None, *top, {"x": -0.5}]}}
    choice = {"text": "x", "finish_reason": "length", **found}
    usage = {"prompt_tokens": len(tokens), "completion_tokens": 1}
    return Sent(content={"choices": [choice], "usage": usage})


_COUNTER = itertools.count()
FORM_FIELDS = {"response_format", "structured_outputs", "regex", "grammar", "json_schema"}
TRIAL = {
    "type": "object",
    "properties": {"zq": {"enum": [7]}},
    "required": ["zq"],
    "additionalProperties": False,
}
_NAMED = {"name": "answer", "schema": TRIAL, "strict": True}
_LARK = '%llguidance {}\nstart: "zebra" | "quartz"'
_GBNF = "root ::= " + " | ".join(
    '"' + "".join(f"\\U{ord(c):08X}" for c in label) + '"' for label in ("zebra", "quartz")
)
FORMS = {
    json.dumps(fields): text
    for fields, text in [
        ({"response_format": {"type": "json_schema", "json_schema": _NAMED}}, '{ "zq": 7 }'),
        ({"response_format": {"type": "json_object"}}, '{"a": 1}'),
        ({"structured_outputs": {"json": TRIAL}}, '{"zq": 7}'),
        ({"structured_outputs": {"regex": "[0-9]{3}zq"}}, "123zq"),
        ({"structured_outputs": {"choice": ["zebra", "quartz"]}}, "zebra"),
        ({"structured_outputs": {"grammar": 'start: "zebra" | "quartz"'}}, "quartz"),
        ({"regex": "[0-9]{3}zq"}, "123zq"),
        ({"regex": "(zebra|quartz)"}, "zebra"),
        ({"grammar": _LARK}, "zebra"),
        ({"grammar": _GBNF}, "zebra"),
        ({"json_schema": TRIAL}, '{"zq": 7}'),
    ]
}
"""What a server that enforces forms answers to the requests of a probe."""


def error(status: int, **headers: str) -> Sent:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Sent(status, {"error": {"message": "about SECRET ROW"}}, names)


@dataclass
class FakeServer:
    """The state of one server; `act` may be replaced while it runs."""

    act: Act
    models: object = field(default_factory=lambda: {"data": [{"id": "m"}]})
    models_status: int = 200
    version: str = "1.0"
    slots: int | None = None
    port: int = 0
    honors: frozenset[str] = SETTINGS
    probes: int = 0
    listed: int = 0
    shows: Mapping[str, Callable[[dict[str, Any]], object]] = field(default_factory=dict)
    probe_seconds: float = 0.0
    tls: ssl.SSLContext | None = None
    own_form: Sent = field(default_factory=lambda: answer("x", finish="length"))
    seen: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    most_in_flight: int = 0
    _in_flight: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _http: ThreadingHTTPServer | None = None
    _open: set[socket.socket] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._http = _Http(("127.0.0.1", self.port), Handler)
        if self.tls is not None:
            self._http.socket = self.tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        serve = self._http.serve_forever
        threading.Thread(target=serve, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Reset every connection and stop listening, like a process that is killed."""
        if self._http is None:
            return
        self._http.shutdown()
        self._http.server_close()
        self._http = None
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle(self, path: str, headers: Headers, body: dict[str, Any]) -> Sent:
        prompt = prompt_of(body)
        if prompt in (_PROMPT, _TEXT, _SHORT_PROMPT, _FORM_PROMPT):
            self.probes += 1
            time.sleep(self.probe_seconds)
            own = FORM_FIELDS & self.honors & set(body)
            if own and json.dumps({name: body[name] for name in own}) not in FORMS:
                return self.own_form
            return probed(body, self.honors)
        with self._lock:
            self.seen[prompt] += 1
            self.bodies.append(body)
            self.headers.append(headers)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            seen = Seen(path, headers, body, prompt, self.seen[prompt], self._in_flight)
        try:
            return self.act(seen)
        finally:
            with self._lock:
                self._in_flight -= 1


class _Http(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Connections that tests reset are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: FakeServer
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        self.server_of._open.add(self.connection)

    def finish(self) -> None:
        self.server_of._open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.endswith("/models"):
            self.server_of.listed += 1
            listed = self.server_of.models
            raw = listed if isinstance(listed, bytes) else None
            self._send(Sent(self.server_of.models_status, listed, raw=raw))
        elif self.path == "/version":
            slots = {"total_slots": n} if (n := self.server_of.slots) else {}
            self._send(Sent(content={"version": self.server_of.version} | slots))
        else:
            self._send(error(404))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.path.endswith("/completions"):
            shown = self.server_of.shows.get(self.path)
            self._send(error(404) if shown is None else Sent(content=shown(body)))
            return
        self._send(self.server_of.handle(self.path, dict(self.headers), body))

    def _send(self, sent: Sent) -> None:
        data = sent.raw if sent.raw is not None else json.dumps(sent.content).encode()
        if sent.cut == 0:
            self._reset()
            return
        self.send_response(sent.status)
        named = {"content-type": "application/json", **sent.headers}
        for key, value in {**named, "content-length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data if sent.cut is None else data[: sent.cut])
        self.wfile.flush()
        if sent.cut is not None:
            self._reset()

    def _reset(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


@contextmanager
def serving(act: Act = say, **state: Any) -> Iterator[FakeServer]:
    server = FakeServer(act, **state)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def slowly(act: Act, seconds: float = 0.004) -> Act:
    def later(seen: Seen) -> Sent:
        time.sleep(seconds)
        return act(seen)

    return later
