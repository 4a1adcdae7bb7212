"""The fields of a server for the settings of a job."""

import json
import time
from collections.abc import Callable
from datetime import date

from pydantic import TypeAdapter

from batchgen.engines.contract import ModelUse
from batchgen.engines.openai.form_fields import WAYS
from batchgen.engines.openai.probing.dialect_probe import DialectProbe
from batchgen.engines.openai.probing.form_probe import FormProbe
from batchgen.engines.openai.probing.probe_sender import ProbeSender
from batchgen.engines.openai.prompt_likelihoods import WAYS as PROMPT_WAYS
from batchgen.engines.openai.served_model import FoundServer
from batchgen.engines.openai.server_settings import ServerSettings
from batchgen.engines.openai.transport.base_url import BaseUrl
from batchgen.engines.openai.transport.http_connection import HttpConnection
from batchgen.errors import JobKeyError, ModelError
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.record_cache import KeyedRecord, RecordCache

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


def find_dialect(
    settings: ServerSettings,
    server: FoundServer,
    use: ModelUse,
    report: Callable[[str], None],
) -> dict[str, str]:
    """The fields that the server honors; probed once a day.

    Raises:
        JobKeyError: a setting has no effect.
        ModelError: the server refuses every request.
        UnavailableError: it gives no answer.
    """
    found = _probed(settings, server, use, report)
    dialect = {name: field for name, field in found.items() if name != _LIKELIHOODS}
    _check_likelihoods(server, use, found.get(_LIKELIHOODS, ""))
    where = f"{server.url} ({server.model.base})"
    for name, key in use.settings.items():
        if name in PROBED and name not in dialect:
            raise JobKeyError(
                key,
                f"has no effect on {where}: the server ignores or refuses it",
                hint="Remove it, or use another server.",
            )
    if use.sampled and "temperature" not in dialect:
        raise JobKeyError(
            use.settings.get("temperature", "decoding.temperature"),
            f"has no effect on {where}: two seeds give the same answer",
            hint="Remove it, or use another server.",
        )
    return dialect


def _probed(
    settings: ServerSettings,
    server: FoundServer,
    use: ModelUse,
    report: Callable[[str], None],
) -> dict[str, str]:
    url, served = server.url, server.model
    tokens, wanted = settings.tokens, frozenset(use.settings) & (PROBED | _SCORED)
    key = {
        "day": date.today().isoformat(),  # noqa: DTZ011  # only a day's worth of trust
        "url": str(url),
        "model": json.dumps([served.name, served.identity()]),
        "use": json.dumps([tokens, use.sampled, sorted(wanted), _form(use)]),
    }
    cache = RecordCache(cache_folder() / "dialects", _CONTENT)
    if (kept := cache.get(key)) is not None:
        return kept
    report(f"probing which settings {url} honors")
    seconds = min(settings.timeout, settings.give_up)  # the answers have a few tokens
    connection = HttpConnection(url, settings.key(), seconds, settings.tls())
    path = "/completions" if tokens else "/chat/completions"
    until = time.monotonic() + settings.give_up
    try:
        probe = DialectProbe(ProbeSender(connection, path, until).send, served.name, tokens=tokens)
        if probe.base().text is None:
            raise ModelError(
                f"{url}{path} refuses a short request",
                hint="Set served_name to a model that generates text."
                + (" Without model.path, messages are sent." if tokens else ""),
            )
        dialect = probe.find(wanted, sampled=use.sampled)
        dialect |= _find_forms(FormProbe(probe), url, use)
        if wanted & _SCORED:
            dialect[_LIKELIHOODS] = probe.likelihoods()
    finally:
        connection.close()
    cache.put(key, dialect)
    return dialect


def _find_forms(probe: FormProbe, url: BaseUrl, use: ModelUse) -> dict[str, str]:
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
            f"{why}: {url}",
            hint="Write a simpler form, or use another server.",
        )
    return found


def _form(use: ModelUse) -> list[str]:
    return [use.grammar.kind, use.grammar.text] if use.grammar else []


def _check_likelihoods(server: FoundServer, use: ModelUse, way: str) -> None:
    """Raise JobKeyError if the server cannot score the texts of metrics, or the labels of judges."""
    enough = {"likelihoods": ("prompt_logprobs", "echo"), "labels": (*PROMPT_WAYS, "top")}
    for name, ways in enough.items():
        if name in use.settings and way not in ways:
            raise JobKeyError(
                use.settings[name],
                f"needs log-probabilities of given texts, which {server.url} does not return",
                hint="Remove it, or use a server that returns them, such as vllm serve.",
            )
