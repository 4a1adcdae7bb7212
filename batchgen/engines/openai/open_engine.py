"""Opens the engine: prepares the connections to the servers of a job."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchgen.engines.contract import SERVED, SERVED_CONTEXT, ModelUse
from batchgen.engines.openai.identify_served import DIALECT, identify_served_model, server_access
from batchgen.engines.openai.openai_engine import OpenaiEngine
from batchgen.engines.openai.row_exchange import Endpoint
from batchgen.engines.openai.served_watch import ServedWatch
from batchgen.engines.openai.server_settings import read_server_settings
from batchgen.engines.openai.transport.base_url import BaseUrl
from batchgen.engines.openai.transport.concurrency_limit import ConcurrencyLimit
from batchgen.engines.openai.transport.server_fleet import Patience, ServerFleet, ServerState
from batchgen.engines.this_start import UNRECORDED
from batchgen.job.spec import Batching, ModelSpec


def open_openai_engine(
    model: ModelSpec,
    *,
    folder: Path | None,
    batching: Batching,
    should_stop: Callable[[], bool],
) -> OpenaiEngine:
    """Open the engine; prompts are sent as token ids if there is a folder with the tokenizer; raises as `identify_served_model`."""
    settings, known = read_server_settings(model), _known(model)
    here = known.pop(UNRECORDED)
    fixed = batching.max_rows if batching.max_rows != "auto" else None
    shares = _shares(fixed, len(settings.urls))
    patience = Patience(give_up=settings.give_up, answer=settings.timeout)

    def state(url: BaseUrl, share: int | None) -> ServerState:
        limit = ConcurrencyLimit(share, slots=here["slots"].get(str(url)))
        return ServerState(url, limit, is_away=str(url) in here["away"])

    def fleet() -> ServerFleet:
        return ServerFleet(
            [state(*one) for one in zip(settings.urls, shares, strict=True)], patience
        )

    name = here["name"]
    identity = {k: value for k, value in known.items() if k not in (DIALECT, SERVED_CONTEXT)}
    access = server_access(settings)
    watch = ServedWatch(lambda url: access.look(url, name).identity(), identity)
    endpoint = Endpoint(
        name, folder is not None, settings.key(), settings.tls(), known[DIALECT], watch
    )
    facts = {
        **known,
        "served_name": name,
        "base_url": [str(url) for url in settings.urls],
        "prompts_sent_as": "token ids" if folder is not None else "messages",
    }
    return OpenaiEngine(endpoint, fleet, facts=facts, should_stop=should_stop)


def _known(model: ModelSpec) -> dict[str, Any]:
    """What `identify_served_model` found at this start; found now if the run was complete, or is not one."""
    known = model.engine_args.get(SERVED) or {}
    if UNRECORDED in known:
        return dict(known)
    return identify_served_model(model, ModelUse({}, known=known), lambda _: None)


def _shares(fixed: int | None, servers: int) -> list[int | None]:
    """The requests at once of each server."""
    if fixed is None:
        return [None] * servers
    return [max(1, (fixed + number) // servers) for number in range(servers)]
