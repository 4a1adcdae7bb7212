"""Notices that a server is upgraded, or offers another model, in the middle of a run.

a connection is lost, or an answer has another system_fingerprint ──> the models list is read again before the next row
an answer names another model ──> the run stops; it can be continued with the former model
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from batchgen.engines.openai.transport.base_url import BaseUrl
from batchgen.engines.openai.transport.server_fleet import ServerState
from batchgen.errors import ModelError


@dataclass(frozen=True, slots=True)
class ServedWatch:
    """Compares what servers offer with what they offered when this start of the run began.

    Attributes:
        look: what a server offers now; raises ModelError and NotReadyError.
        identity: what it must be.
    """

    look: Callable[[BaseUrl], Mapping[str, object]]
    identity: Mapping[str, object]

    def confirm(self, server: ServerState) -> None:
        """Read the models list of a server that may have changed.

        Raises:
            ModelError: it offers another model, or is another program.
            NotReadyError: it does not answer.
        """
        with server.confirming:
            if server.confirmed:
                return
            now = self.look(server.url)
            changed = [name for name, value in self.identity.items() if now.get(name) != value]
            if changed:
                found = ", ".join(
                    f"{name} was {self.identity[name]!r} and is now {now.get(name)!r}"
                    for name in changed
                )
                raise _changed(server, found)
            server.confirmed, server.confirmed_at = True, monotonic()


def check_answer(server: ServerState, answer: Mapping[str, Any]) -> None:
    """Compare the names in an answer with those of the server's first answer.

    Raises:
        ModelError: it names another model.
    """
    model, fingerprint = answer.get("model"), answer.get("system_fingerprint")
    if isinstance(model, str):
        if server.answered_as and model != server.answered_as:
            raise _changed(server, f"answers came from {server.answered_as!r}, now from {model!r}")
        server.answered_as = model
    if isinstance(fingerprint, str) and fingerprint not in server.fingerprints:
        server.confirmed = server.confirmed and not server.fingerprints
        server.fingerprints.append(fingerprint)


def _changed(server: ServerState, found: str) -> ModelError:
    return ModelError(
        f"{server.url} has changed during the run: {found}; finished rows are saved",
        hint="Start the former model and version, then repeat the same command, or begin anew with --fresh.",
    )
