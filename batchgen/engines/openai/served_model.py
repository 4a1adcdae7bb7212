"""Which model a server offers: what is fixed when a run starts, and compared when it is continued.

GET /models ──> the name, by `model.served_name` or the only one ──> ServedModel
GET /version (vLLM), /props (llama.cpp), /api/version (Ollama), or the header `server` ──> the program
"""

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from batchgen.engines.openai.answer_json import parse_json, sound_text
from batchgen.engines.openai.transport.base_url import BaseUrl
from batchgen.engines.openai.transport.http_connection import (
    CLOSED,
    ConnectionLostError,
    HttpConnection,
    HttpReply,
)
from batchgen.engines.openai.transport.retry_policy import fatal_reason, judge_reply
from batchgen.errors import ModelError, UnavailableError

START_SECONDS = 10.0
"""How long a server that cannot be reached is waited for before the first row."""
_PAUSE = 0.5
_MOST_NAMED = 8
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as its server describes it.

    Attributes:
        name: as requests name it.
        base: the model behind that name, where the server reports another.
        weights: format and size of its weights; empty if unknown.
        program: the server's program, with its version where it has one; empty if unknown.
        context_length: prompt and answer together; None if unknown.
        slots: rows that the server computes at once; None if unknown. Does not decide an answer.
    """

    name: str
    base: str
    weights: str
    program: str
    context_length: int | None
    slots: int | None = None

    def identity(self) -> dict[str, object]:
        """What decides the answers, as plain values for a run's settings."""
        return {
            "served_model": self.base,
            "served_weights": self.weights,
            "served_by": self.program,
        }


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """How servers are reached.

    Attributes:
        start_seconds: to wait for a server that cannot be reached.
        busy_seconds: to wait for one that answers and is not ready, such as while it loads its model.
    """

    key: str = field(repr=False)
    context: ssl.SSLContext | None = None
    start_seconds: float = START_SECONDS
    busy_seconds: float = 600.0

    def find_model(
        self, urls: Sequence[BaseUrl], name: str | None, report: Callable[[str], None]
    ) -> "FoundModel":
        """The model that the servers offer. One server that is ready is enough; `report` names those that are not.

        Raises:
            ModelError: a server has no such model, rejects the key, or is not such a server; or two differ.
            UnavailableError: no server is ready.
        """
        began = time.monotonic()
        found: list[FoundServer] = []
        away: dict[BaseUrl, NotReadyError] = {}
        reported = False
        while not found:
            for url in urls:
                try:
                    found.append(FoundServer(url, self.look(url, name)))
                except NotReadyError as error:
                    away[url] = error
            waited = time.monotonic() - began
            if not found and all(waited > self._limit(error) for error in away.values()):
                names = "; ".join(f"{url} does not answer: {e.why}" for url, e in away.items())
                raise UnavailableError(names, hint=_away_hint(away))
            if not found and not reported:
                why = "; ".join(f"{url}: {error.why}" for url, error in away.items())
                report(f"waiting for {why}")
                reported = True
            if not found:
                time.sleep(_PAUSE)
        ready = [one.url for one in found]
        left = {url: error for url, error in away.items() if url not in ready}
        for url, reason in left.items():
            report(f"{url} does not answer: {reason.why}. Rows are sent there once it does")
        _check_same(found)
        stated = [one.model.context_length for one in found]
        least = min((length for length in stated if length is not None), default=None)
        slots = {one.url: n for one in found if (n := one.model.slots) is not None}
        return FoundModel(found[0], tuple(left), least, slots)

    def look(self, url: BaseUrl, name: str | None) -> ServedModel:
        """The model that a server offers now.

        Raises:
            ModelError: it has no such model, rejects the key, or is not such a server.
            NotReadyError: it cannot be reached, or has too much to do.
        """
        connection = HttpConnection(url, self.key, min(30.0, self.busy_seconds), self.context)
        try:
            reply = _ready_reply(connection)
            listed = _listed_models(url, reply)
            program, slots = _program(connection, reply)
        finally:
            connection.close()
        chosen = _chosen(url, listed, name)
        base = chosen.get("root") or chosen["id"]
        return ServedModel(
            chosen["id"],
            sound_text(str(base)),
            sound_text(_weights(chosen)),
            sound_text(program),
            _context_length(chosen),
            slots,
        )

    def _limit(self, error: "NotReadyError") -> float:
        return self.busy_seconds if error.answers else self.start_seconds


class NotReadyError(Exception):
    """A server gives no list of models. `answers`: it can be reached, and has too much to do or loads its model."""

    def __init__(self, why: str, *, answers: bool) -> None:
        super().__init__(why)
        self.why = why
        self.answers = answers


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A server that is ready, and its model."""

    url: BaseUrl
    model: ServedModel


@dataclass(frozen=True, slots=True)
class FoundModel:
    """The first server that is ready, those that do not answer, and the least context of the ready ones, if one states it.

    `slots`: of the ready servers that state them.
    """

    first: FoundServer
    away: tuple[BaseUrl, ...]
    context_length: int | None
    slots: Mapping[BaseUrl, int]


def _away_hint(away: Mapping[BaseUrl, NotReadyError]) -> str:
    closed = any(url.scheme == "http" and error.why == CLOSED for url, error in away.items())
    check = "whether base_url must start with https://" if closed else "base_url"
    return f"Check {check}, start the server, then repeat the same command."


def _check_same(found: Sequence[FoundServer]) -> None:
    first = found[0]
    for one in found[1:]:
        model = one.model
        if model.identity() != first.model.identity() or model.name != first.model.name:
            raise ModelError(
                f"{one.url} serves {_described(model)}, and {first.url} {_described(first.model)}",
                hint="List only servers of the same model and version in base_url.",
            )


def _ready_reply(connection: HttpConnection) -> HttpReply:
    """The answer of `/models`.

    Raises:
        ModelError: waiting does not help.
        NotReadyError: there is none yet.
    """
    try:
        reply = connection.send("GET", "/models")
    except ConnectionLostError as error:
        if error.hopeless:
            hint = error.hint or _SCHEME_HINT
            raise ModelError(f"{connection.url}: {error.why}", hint=hint) from error
        raise NotReadyError(error.why, answers=False) from error
    if judge_reply(reply) in ("busy", "away", "broken") and not reply.is_page:
        raise NotReadyError(f"HTTP {reply.status}", answers=True)
    return reply


_SCHEME_HINT = "Check whether base_url must start with http:// or https://, and its host."


def _listed_models(url: BaseUrl, reply: HttpReply) -> list[dict[str, Any]]:
    """The models of the answer of `/models`."""
    verdict, hint = judge_reply(reply), _address_hint(url, reply)
    if reply.is_page and reply.status not in _KEY_REFUSED:
        raise ModelError(
            f"{url}/models answers with a page instead of JSON (HTTP {reply.status})", hint=hint
        )
    if verdict == "fatal":
        raise ModelError(f"{url}/models: {fatal_reason(reply)}", hint=hint)
    content = parse_json(reply.body) if verdict == "answer" else None
    data = content.get("data") if content is not None else None
    models = [m for m in data if isinstance(m, dict)] if isinstance(data, list) else []
    models = [m | {"id": sound_text(m["id"])} for m in models if isinstance(m.get("id"), str)]
    if not models:
        raise ModelError(f"{url}/models lists no models (HTTP {reply.status})", hint=hint)
    return models


def _address_hint(url: BaseUrl, reply: HttpReply) -> str:
    if reply.status in _KEY_REFUSED:
        return "Set api_key_env to the environment variable that has the server's key."
    if url.scheme == "http" and (300 <= reply.status < 400 or reply.status in _OF_HTTPS):
        return "Check whether base_url must start with https://."
    if url.path.endswith("/v1"):
        return _SCHEME_HINT
    return "Check base_url. Its path usually ends in /v1."


_KEY_REFUSED = (401, 403)
_OF_HTTPS = (400, 426)
"""What servers answer to http on a port for https."""


def _chosen(url: BaseUrl, models: Sequence[dict[str, Any]], name: str | None) -> dict[str, Any]:
    names = [model["id"] for model in models]
    known = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
    if name is None:
        if len(models) > 1:
            raise ModelError(
                f"{url} serves {len(models)} models: {known}",
                hint="Choose one with served_name.",
            )
        return models[0]
    if name not in names:
        raise ModelError(
            f"{url} has no model {name!r}; it serves {known}", hint="Correct served_name."
        )
    return models[names.index(name)]


def _program(connection: HttpConnection, reply: HttpReply) -> tuple[str, int | None]:
    """The server's program with its version, and its slots. A hosted service changes whenever it likes: nothing is compared."""
    if not connection.url.is_local:
        return "", None
    root = replace(connection.url, path=connection.url.path.removesuffix("/v1"))
    other = HttpConnection(root, connection.key, connection.seconds, connection.context)
    header = reply.headers.get("server", "")
    try:
        contents = (_shown(other.send("GET", path)) for path in _VERSION_PATHS)
        content = next((one for one in contents if _version(one)), {})
    except ConnectionLostError:
        content = {}
    finally:
        other.close()
    return f"{header} {_version(content)}".strip()[:_LONGEST_NAME], _count(content, "total_slots")


_VERSION_PATHS = ("/version", "/props", "/api/version")


def _shown(reply: HttpReply) -> dict[str, Any]:
    return (parse_json(reply.body) or {}) if reply.status == 200 else {}


def _version(content: Mapping[str, Any]) -> str:
    values = [content.get(name) for name in ("version", "build_info")]
    return next((value for value in values if isinstance(value, str)), "")


def _weights(model: Mapping[str, Any]) -> str:
    meta = model.get("meta")
    facts = meta if isinstance(meta, dict) else {}
    values = [str(facts[name]) for name in ("ftype", "n_params", "size") if name in facts]
    return " ".join(values)[:_LONGEST_NAME]


def _context_length(model: Mapping[str, Any]) -> int | None:
    meta = model.get("meta")
    if "max_model_len" in model or not isinstance(meta, dict):
        return _count(model, "max_model_len")
    return _count(meta, "n_ctx")


def _count(content: Mapping[str, Any], name: str) -> int | None:
    """A number above 0; None if there is none."""
    value = content.get(name)
    valid = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if valid and isinstance(value, int) else None


def _described(model: ServedModel) -> str:
    program = f" ({model.program})" if model.program else ""
    return f"{model.base} {model.weights}".strip() + f" as {model.name}{program}"
