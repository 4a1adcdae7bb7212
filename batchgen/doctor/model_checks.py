"""The hub or its mirror, and the models on this machine."""

import os
from collections.abc import Iterator

from batchgen.doctor.finding import Finding
from batchgen.errors import BatchgenError
from batchgen.models.catalog import list_models
from batchgen.models.hub import Hub, UnreachableError


def check_hub() -> Iterator[Finding]:
    """Whether models can be downloaded. Connects to the hub, which no other command does without need."""
    hub = Hub.from_environment(os.environ)
    if hub.offline_by:
        text = f"{hub.offline_by} forbids connections; models on this machine work"
        yield Finding("hub", "note", text, f"Unset {hub.offline_by} to download models.")
        return
    try:
        hub.probe()
    except UnreachableError as error:
        text = f"{hub.shown_endpoint} is not reachable ({error}); models on this machine work"
        fix = "Set HF_ENDPOINT to a mirror, or copy the model's folder here."
        yield Finding("hub", "note", text, fix)
        return
    yield Finding("hub", "ok", f"{hub.shown_endpoint} responds")


def check_models() -> Iterator[Finding]:
    """The models in the caches, and those that are incomplete."""
    try:
        models = list_models()
    except (BatchgenError, OSError) as error:
        yield Finding("models", "note", str(error), "Check the folders of the caches.")
        return
    ready = [model.name for model in models if model.state == "ready"]
    text = f"{len(ready)} ready: {', '.join(ready)}" if ready else "none is downloaded"
    yield Finding("models", "ok", text)
    for model in models:
        if model.state == "incomplete":
            fix = f"Download the rest: batchgen models get {model.name}."
            yield Finding("models", "note", f"{model.name} is incomplete: {model.note}", fix)
