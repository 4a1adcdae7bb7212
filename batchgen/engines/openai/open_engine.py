"""Opens the engine: finds the served model and prepares connections."""

import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from batchgen.engines.contract import SERVED, ModelUse
from batchgen.engines.openai.dialect_probe import DialectProbe
from batchgen.engines.openai.form_fields import WAYS
from batchgen.engines.openai.form_probe import FormProbe
from batchgen.engines.openai.openai_engine import OpenaiEngine
from batchgen.engines.openai.prompt_likelihoods import WAYS as PROMPT_WAYS
from batchgen.engines.openai.row_exchange import Endpoint
from batchgen.engines.openai.served_model import START_SECONDS, ServedModel, ServerAccess
from batchgen.engines.openai.server_settings import ServerSettings, read_server_settings
from batchgen.engines.openai.transport.concurrency_limit import ConcurrencyLimit
from batchgen.engines.openai.transport.http_connection import (
    ConnectionLostError,
    HttpConnection,
    HttpReply,
)
from batchgen.engines.openai.transport.retry_policy import fatal_reason, judge_reply, retry_after
from batchgen.engines.openai.transport.server_fleet import Patience, ServerFleet, ServerState
from batchgen.errors import JobKeyError, ModelError, UnavailableError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.record_cache import KeyedRecord, RecordCache

DIALECT = "dialect"
PROBED = frozenset(
    {
        *("top_p", "top_k", "min_p", "repetition_penalty", "min_new_tokens", "stop_strings"),
        *("logprobs", *WAYS),
    }
)
"""Decoding settings that servers may ignore."""
_SCORED = frozenset({"likelihoods", "labels"})
_LIKELIHOODS = "likelihoods"
"""In the record of a probe: how the server scores given texts. Does not decide an answer."""
_CONTENT = TypeAdapter(KeyedRecord[dict[str, str]])


def open_openai_engine(
    model: ModelSpec,
    *,
    folder: Path | None,
    batching: Batching,
    should_stop: Callable[[], bool],
) -> OpenaiEngine:
    """Open the engine; prompts are sent as token ids if there is a folder with the tokenizer.

    Raises:
        JobKeyError: a key of the section is invalid.
        ModelError: a server rejects the key or has no such model.
        UnavailableError: a server cannot be reached.
    """
    settings = read_server_settings(model)
    known = model.engine_args.get(SERVED) or identify_served_model(
        model, ModelUse({}), lambda _: None
    )
    fixed = batching.max_rows if batching.max_rows != "auto" else None
    shares = _shares(fixed, len(settings.urls))
    patience = Patience(give_up=settings.give_up, answer=settings.timeout)

    def fleet() -> ServerFleet:
        limits = [ConcurrencyLimit(share) for share in shares]
        pairs = zip(settings.urls, limits, strict=True)
        return ServerFleet([ServerState(url, limit) for url, limit in pairs], patience)

    name = _find(settings, lambda _: None).name
    endpoint = Endpoint(name, folder is not None, settings.key(), _tls(settings), known[DIALECT])
    facts = {
        **known,
        "served_name": name,
        "base_url": [str(url) for url in settings.urls],
        "prompts_sent_as": "token ids" if folder is not None else "messages",
    }
    return OpenaiEngine(endpoint, fleet, facts=facts, should_stop=should_stop)


def identify_served_model(
    model: ModelSpec, use: ModelUse, report: Callable[[str], None]
) -> dict[str, Any]:
    """The model that the servers of a section offer, and the fields that they honor; raises as `open_openai_engine`.

    The fields are those that were found when the run began, as long as model and program are the same.

    Raises:
        JobKeyError: a setting has no effect.
    """
    settings = read_server_settings(model)
    served = _find(settings, report)
    identity = served.identity()
    known = use.known.get(DIALECT)
    same = all(use.known.get(name) == value for name, value in identity.items())
    if same and isinstance(known, dict):
        return {**identity, DIALECT: known}
    found = _dialect(settings, served, use, report)
    _check_likelihoods(settings, use, found.get(_LIKELIHOODS, ""))
    dialect = {name: field for name, field in found.items() if name != _LIKELIHOODS}
    for name, key in use.settings.items():
        if name in PROBED and name not in dialect:
            raise JobKeyError(
                key,
                f"has no effect on {settings.urls[0]} ({served.base}): the server ignores or refuses it",
                hint="Remove it, or use another server.",
            )
    if use.sampled and "temperature" not in dialect:
        key = use.settings.get("temperature", "decoding.temperature")
        raise JobKeyError(
            key,
            f"has no effect on {settings.urls[0]} ({served.base}): two seeds give the same answer",
            hint="Remove it, or use another server.",
        )
    return {**identity, DIALECT: dialect}


def _check_likelihoods(settings: ServerSettings, use: ModelUse, way: str) -> None:
    """Raise JobKeyError if the server cannot score the texts of metrics, or the labels of judges."""
    enough = {"likelihoods": ("prompt_logprobs", "echo"), "labels": (*PROMPT_WAYS, "top")}
    for name, ways in enough.items():
        if name in use.settings and way not in ways:
            raise JobKeyError(
                use.settings[name],
                f"needs log-probabilities of given texts, which {settings.urls[0]} does not return",
                hint="Remove it, or use a server that returns them, such as vllm serve.",
            )


def _find(settings: ServerSettings, report: Callable[[str], None]) -> ServedModel:
    access = ServerAccess(
        settings.key(),
        _tls(settings),
        start_seconds=min(START_SECONDS, settings.give_up),
        busy_seconds=settings.give_up,
    )
    return access.find_model(settings.urls, settings.served_name, report)


def _dialect(
    settings: ServerSettings,
    served: ServedModel,
    use: ModelUse,
    report: Callable[[str], None],
) -> dict[str, str]:
    """The fields that the server honors; probed once a day."""
    tokens, wanted = settings.tokens, frozenset(use.settings) & (PROBED | _SCORED)
    key = {
        "day": date.today().isoformat(),  # noqa: DTZ011  # only a day's worth of trust
        "url": str(settings.urls[0]),
        "model": json.dumps([served.name, served.identity()]),
        "use": json.dumps([tokens, use.sampled, sorted(wanted), _form(use)]),
    }
    cache = RecordCache(cache_folder() / "dialects", _CONTENT)
    if (kept := cache.get(key)) is not None:
        return kept
    report(f"probing which settings {settings.urls[0]} honors")
    seconds = min(settings.timeout, settings.give_up)  # the answers have a few tokens
    connection = HttpConnection(settings.urls[0], settings.key(), seconds, _tls(settings))
    path = "/completions" if tokens else "/chat/completions"
    until = time.monotonic() + settings.give_up
    try:
        probe = DialectProbe(_ProbeSender(connection, path, until).send, served.name, tokens=tokens)
        if probe.base().text is None:
            raise ModelError(
                f"{settings.urls[0]}{path} refuses a short request",
                hint="Set served_name to a model that generates text."
                + (" Without model.path, messages are sent." if tokens else ""),
            )
        dialect = probe.find(wanted, sampled=use.sampled)
        dialect |= _find_forms(FormProbe(probe), settings, use)
        if wanted & _SCORED:
            dialect[_LIKELIHOODS] = probe.likelihoods()
    finally:
        connection.close()
    cache.put(key, dialect)
    return dialect


def _find_forms(probe: FormProbe, settings: ServerSettings, use: ModelUse) -> dict[str, str]:
    """How the forms that the job uses are requested of the server; one that it does not enforce is left out.

    Raises:
        JobKeyError: the server does not enforce the form of the job, though it does others of its kind.
    """
    found = probe.find(frozenset(use.settings))
    grammar = use.grammar
    way = found.get(grammar.kind) if grammar is not None else None
    if grammar is not None and way is not None and (why := probe.objection(grammar, way)):
        raise JobKeyError(
            use.settings[grammar.kind],
            f"{why}: {settings.urls[0]}",
            hint="Write a simpler form, or use another server.",
        )
    return found


def _form(use: ModelUse) -> list[str]:
    return [use.grammar.kind, use.grammar.text] if use.grammar else []


@dataclass(slots=True)
class _ProbeSender:
    """Sends the requests of a probe, each until the server is not busy."""

    connection: HttpConnection
    path: str
    until: float
    _works: bool = False

    def send(self, body: bytes) -> HttpReply:
        """The reply; HTTP 500 is one if it comes again and again from a server that has answered another request."""
        broken = 0
        while True:
            wait = 1.0
            try:
                reply = self.connection.send("POST", self.path, body)
            except ConnectionLostError as error:
                why = error.why
            else:
                verdict = judge_reply(reply)
                if verdict == "fatal":
                    raise ModelError(
                        f"{self.connection.url}{self.path}: {fatal_reason(reply)}",
                        hint="Check base_url, served_name and api_key_env.",
                    )
                broken += verdict == "broken"
                if verdict in ("answer", "refused") or (self._works and broken >= _BROKEN):
                    self._works = self._works or verdict == "answer"
                    return reply
                why, wait = f"HTTP {reply.status}", retry_after(reply.headers) or wait
            if time.monotonic() + wait > self.until:
                raise UnavailableError(
                    f"{self.connection.url} gives no answer: {why}",
                    hint="Start the server, then repeat the same command.",
                )
            time.sleep(wait)


_BROKEN = 2
"""So many answers with HTTP 500 to a field refuse it."""


def _shares(fixed: int | None, servers: int) -> list[int | None]:
    """The requests at once of each server."""
    if fixed is None:
        return [None] * servers
    return [max(1, (fixed + number) // servers) for number in range(servers)]


def _tls(settings: ServerSettings) -> ssl.SSLContext | None:
    secure = any(url.scheme == "https" for url in settings.urls)
    return ssl.create_default_context() if secure else None
