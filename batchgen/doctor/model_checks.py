"""The hub or its mirror, and the models on this machine."""

import os
from collections.abc import Iterator

from batchgen.doctor.finding import Finding
from batchgen.doctor.storage_checks import check_folder
from batchgen.errors import BatchgenError, ModelError
from batchgen.models.catalog import list_models
from batchgen.models.hubs.hub import Hub, UnreachableError
from batchgen.models.hubs.model_scope import ModelScope


def check_hub() -> Iterator[Finding]:
    """Whether models can be downloaded from the hub. Connects to it, which no other command does without need."""
    yield _reachable("hub", Hub.from_environment(os.environ))


def check_modelscope() -> Iterator[Finding]:
    """ModelScope, for a job that names a model of it: its library, its address and its cache."""
    scope = ModelScope.from_environment(os.environ)
    yield _reachable("modelscope", scope)
    yield from check_folder("modelscope cache", scope.cache, "Set MODELSCOPE_CACHE.")


def _reachable(topic: str, hub: Hub) -> Finding:
    if hub.offline_by:
        text = f"{hub.offline_by} forbids connections; models on this machine work"
        return Finding(topic, "note", text, f"Unset {hub.offline_by} to download models.")
    try:
        hub.probe()
    except UnreachableError as error:
        text = f"{hub.shown_endpoint} is not reachable ({error}); models on this machine work"
        fix = f"Set {hub.endpoint_variable} to a mirror, or copy the model's folder here."
        return Finding(topic, "note", text, fix)
    except ModelError as error:
        return Finding(topic, "note", error.message, error.hint)
    return Finding(topic, "ok", f"{hub.shown_endpoint} responds")


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
