"""Whether an answer depends on other rows in flight: measured once for each model, version and processor."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from batchgen.engines.openvino.installed_openvino import installed_version
from batchgen.engines.openvino.openvino_capacity import OpenvinoCapacity
from batchgen.planning.host_processor import read_processor
from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.openvino_header import OPENVINO_GRAPH, OPENVINO_WEIGHTS
from batchgen.storage.record_cache import KeyedRecord, RecordCache


@dataclass(frozen=True, slots=True)
class InvarianceRecord:
    """A measurement; `reason` gives what was compared, and the largest difference."""

    invariant: bool
    reason: str


_CONTENT = TypeAdapter(KeyedRecord[InvarianceRecord])


def known_invariance(folder: Path, capacity: OpenvinoCapacity) -> InvarianceRecord | None:
    """The measurement of an earlier run; None if there is none."""
    return _cache().get(_key(folder, capacity))


def save_invariance(folder: Path, capacity: OpenvinoCapacity, record: InvarianceRecord) -> None:
    """Keep a measurement for later runs."""
    _cache().put(_key(folder, capacity), record)


def _cache() -> RecordCache[InvarianceRecord]:
    return RecordCache(cache_folder() / "openvino", _CONTENT)


def _key(folder: Path, capacity: OpenvinoCapacity) -> dict[str, str]:
    files = [folder / name for name in (OPENVINO_GRAPH, OPENVINO_WEIGHTS)]
    listing = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return {
        "model": ", ".join(listing),
        "version": installed_version() or "",
        "processor": read_processor().name,
        "settings": f"{capacity.properties}, {capacity.step_tokens} tokens a step",
    }
