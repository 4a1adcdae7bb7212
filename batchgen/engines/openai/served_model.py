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
    """

    name: str
    base: str
    weights: str
    program: str
    context_length: int | None

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
    ) -> ServedModel:
        """The model that all servers offer.

        Raises:
            ModelError: a server has no such model, rejects the key, or is not such a server; or two differ.
            UnavailableError: a server cannot be reached.
        """
        found = [self._model_of(url, name, report) for url in urls]
        for url, other in zip(urls, found, strict=True):
            if other.identity() != found[0].identity() or other.name != found[0].name:
                raise ModelError(
                    f"{url} serves {_described(other)}, and {urls[0]} {_described(found[0])}",
                    hint="List only servers of the same model and version in base_url.",
                )
        return found[0]

    def _model_of(
        self, url: BaseUrl, name: str | None, report: Callable[[str], None]
    ) -> ServedModel:
        connection = HttpConnection(url, self.key, 30.0, self.context)
        try:
            reply = self._reached(connection, report)
            listed = _listed_models(url, reply)
            program = _program(connection, reply)
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
        )

    def _reached(self, connection: HttpConnection, report: Callable[[str], None]) -> HttpReply:
        """The answer of `/models`, once the server is ready."""
        url, began, reported = connection.url, time.monotonic(), False
        while True:
            limit = self.start_seconds
            try:
                reply = connection.send("GET", "/models")
            except ConnectionLostError as error:
                why = error.why
                if error.hopeless:
                    raise ModelError(f"{url}: {why}", hint=_SCHEME_HINT) from error
            else:
                verdict = judge_reply(reply)
                if verdict not in ("busy", "away", "broken") or reply.is_page:
                    return reply
                why, limit = f"HTTP {reply.status}", self.busy_seconds
            if time.monotonic() - began > limit:
                raise UnavailableError(
                    f"{url} does not answer: {why}",
                    hint="Check base_url, start the server, then repeat the same command.",
                )
            if not reported:
                report(f"waiting for {url}: {why}")
                reported = True
            time.sleep(_PAUSE)


_SCHEME_HINT = "Check whether base_url must start with http:// or https://, and its host."


def _listed_models(url: BaseUrl, reply: HttpReply) -> list[dict[str, Any]]:
    """The models of the answer of `/models`."""
    if reply.is_page:
        path = "" if url.path.endswith("/v1") else " The path usually ends in /v1."
        raise ModelError(
            f"{url}/models answers with a page instead of JSON (HTTP {reply.status})",
            hint=f"Check base_url.{path}",
        )
    verdict = judge_reply(reply)
    if verdict == "fatal":
        raise ModelError(f"{url}/models: {fatal_reason(reply)}", hint=_fatal_hint(url, reply))
    content = parse_json(reply.body) if verdict == "answer" else None
    data = content.get("data") if content is not None else None
    models = [m for m in data if isinstance(m, dict)] if isinstance(data, list) else []
    models = [m | {"id": sound_text(m["id"])} for m in models if isinstance(m.get("id"), str)]
    if not models:
        raise ModelError(
            f"{url}/models lists no models (HTTP {reply.status})", hint=_fatal_hint(url, reply)
        )
    return models


def _fatal_hint(url: BaseUrl, reply: HttpReply) -> str:
    if reply.status in (401, 403):
        return "Set api_key_env to the environment variable that has the server's key."
    if url.path.endswith("/v1"):
        return _SCHEME_HINT
    return "Check base_url. Its path usually ends in /v1."


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


def _program(connection: HttpConnection, reply: HttpReply) -> str:
    """The server's program and version. A hosted service changes whenever it likes: its version is not compared."""
    if not connection.url.is_local:
        return ""
    root = replace(connection.url, path=connection.url.path.removesuffix("/v1"))
    other = HttpConnection(root, connection.key, connection.seconds, connection.context)
    header = reply.headers.get("server", "")
    try:
        found = (_version(other.send("GET", path)) for path in _VERSION_PATHS)
        version = next(filter(None, found), "")
    except ConnectionLostError:
        version = ""
    finally:
        other.close()
    return f"{header} {version}".strip()[:_LONGEST_NAME]


_VERSION_PATHS = ("/version", "/props", "/api/version")


def _version(reply: HttpReply) -> str:
    content = parse_json(reply.body) if reply.status == 200 else None
    values = [content.get(name) for name in ("version", "build_info")] if content else []
    return next((value for value in values if isinstance(value, str)), "")


def _weights(model: Mapping[str, Any]) -> str:
    meta = model.get("meta")
    facts = meta if isinstance(meta, dict) else {}
    values = [str(facts[name]) for name in ("ftype", "n_params", "size") if name in facts]
    return " ".join(values)[:_LONGEST_NAME]


def _context_length(model: Mapping[str, Any]) -> int | None:
    meta = model.get("meta")
    inner = meta.get("n_ctx") if isinstance(meta, dict) else None
    length = model.get("max_model_len", inner)
    valid = isinstance(length, int) and not isinstance(length, bool) and length > 0
    return length if valid and isinstance(length, int) else None


def _described(model: ServedModel) -> str:
    program = f" ({model.program})" if model.program else ""
    return f"{model.base} {model.weights}".strip() + f" as {model.name}{program}"
