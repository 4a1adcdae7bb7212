"""Finds the model that the servers of a job offer, and how its settings are requested of them."""

from collections.abc import Callable
from typing import Any

from batchgen.engines.contract import SERVED, SERVED_CONTEXT, ModelUse
from batchgen.engines.openai.probing.server_dialect import find_dialect
from batchgen.engines.openai.served_model import START_SECONDS, FoundModel, ServerAccess
from batchgen.engines.openai.served_tokenizer import compare_tokenizer, open_root
from batchgen.engines.openai.server_settings import ServerSettings, read_server_settings
from batchgen.engines.served_tokenizer_sample import TokenizerSample
from batchgen.engines.this_start import UNRECORDED
from batchgen.job.spec import ModelSpec

DIALECT = "dialect"


def identify_served_model(
    model: ModelSpec, use: ModelUse, report: Callable[[str], None]
) -> dict[str, Any]:
    """The model that the servers of a section offer, and the fields that they honor.

    The fields are those that were found when the run began, as long as model and program are the same.

    Raises:
        JobKeyError: a setting has no effect, or a key of the section is invalid.
        ModelError: a server rejects the key or has no such model.
        UnavailableError: no server can be reached.
    """
    settings = read_server_settings(model)
    found = server_access(settings).find_model(settings.urls, settings.served_name, report)
    identity = found.first.model.identity()
    here = {
        "name": found.first.model.name,
        "away": [str(url) for url in found.away],
        "slots": {str(url): slots for url, slots in found.slots.items()},
    }
    known = use.known.get(DIALECT)
    same = all(use.known.get(name) == value for name, value in identity.items())
    if not (same and isinstance(known, dict)):
        known = find_dialect(settings, found.first, use, report)
    return {**identity, **_context(settings, found, use), DIALECT: known, UNRECORDED: here}


def _context(settings: ServerSettings, found: FoundModel, use: ModelUse) -> dict[str, int]:
    """The context of the servers; a run keeps the one it began with where there is room for it.

    A run that began without one, which an earlier version did, is continued without.
    """
    known = use.known.get(SERVED_CONTEXT)
    if not settings.tokens or (use.known and known is None):
        return {}
    stated = [length for length in (found.context_length, known) if isinstance(length, int)]
    return {SERVED_CONTEXT: min(stated)} if stated else {}


def compare_served_tokenizer(
    model: ModelSpec, sample: TokenizerSample, report: Callable[[str], None]
) -> str:
    """How the server's tokenizer differs from the local one: as `CompareTokenizer`."""
    settings, here = read_server_settings(model), model.engine_args[SERVED].get(UNRECORDED)
    if here is None:  # a complete run, which needs no server
        return ""
    url = next(url for url in settings.urls if str(url) not in here["away"])
    return compare_tokenizer(open_root(settings, url), here["name"], sample, report)


def server_access(settings: ServerSettings) -> ServerAccess:
    """How the servers of a section are reached."""
    return ServerAccess(
        settings.key(),
        settings.tls(),
        start_seconds=min(START_SECONDS, settings.give_up),
        busy_seconds=settings.give_up,
    )
