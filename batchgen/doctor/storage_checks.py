"""The folders that a run writes to: free disk, permission, and the kind of file system."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from batchgen.doctor.finding import Finding, problem
from batchgen.errors import ModelError
from batchgen.models.hubs.hub import Hub
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.filesystems import filesystem_of

LITTLE_DISK = 2_000_000_000
"""Bytes; the weights of a small model in float32."""


def check_caches() -> Iterator[Finding]:
    """The cache of batchgen and that of the hub."""
    try:
        yield from check_folder("cache", cache_folder(), "Set BATCHGEN_CACHE to another folder.")
    except ModelError as error:
        yield problem("cache", error.message, error.hint)
    hub = Hub.from_environment(os.environ)
    yield from check_folder("hub cache", hub.cache, "Set HF_HOME to another folder.")


def check_folder(topic: str, folder: Path, move: str) -> Iterator[Finding]:
    """Whether a folder, which may not exist yet, can be written; its free space and file system.

    Args:
        topic: of the finding.
        folder: absolute.
        move: the sentence that states how to choose another folder.
    """
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        text = f"{folder}: {existing} is not a folder that this user can write to"
        yield problem(topic, text, move)
        return
    free, system = shutil.disk_usage(existing).free, filesystem_of(existing)
    text = f"{folder} · {free / 1e9:,.1f} GB free · {system.type or 'unknown file system'}"
    if free < LITTLE_DISK:
        yield Finding(topic, "note", f"{text}: little space", f"Free some space, or: {move}")
    elif system.shared:
        text = f"{text}, which is shared: the journal of a run is slower there"
        yield Finding(topic, "note", text, f"For speed: {move}")
    else:
        yield Finding(topic, "ok", text)
