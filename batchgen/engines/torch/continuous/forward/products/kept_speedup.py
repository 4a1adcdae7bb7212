"""A measured ratio of two ways to compute products, kept for each processor and version of torch.

So `plan` and every start of a run decide alike. The folder may be deleted at any time.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import TypeAdapter

from batchgen.planning.host_processor import HostProcessor
from batchgen.storage.processes import one_process_at_a_time
from batchgen.storage.record_cache import KeyedRecord, RecordCache

_CONTENT = TypeAdapter(KeyedRecord[float])


def kept_speedup(
    folder: Path, processor: HostProcessor, measure: Callable[[], float], **what: str
) -> float:
    """The speed-up kept in `folder` for this processor and torch; measured and kept if there is none.

    `what`: which speed-up, if several are kept in the folder.
    """
    key = {
        "processor": f"{processor.name} {sorted(processor.flags)}",
        "torch": torch.__version__,
        **what,
    }
    kept = RecordCache(folder, _CONTENT)
    if (known := kept.get(key)) is not None:
        return known
    with one_process_at_a_time(kept.lock(key)):  # a second one would disturb the first
        if (known := kept.get(key)) is not None:
            return known
        speedup = measure()
        kept.put(key, speedup)
        return speedup


def time_in_turns(
    one: Callable[[], object], other: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Shortest times of two computations. They alternate, so that other programs slow down both."""
    best = [math.inf, math.inf]
    for repeat in range(repeats + 1):
        for place, compute in enumerate((one, other)):
            begin = time.perf_counter()
            compute()
            if repeat:  # the first one is not timed
                best[place] = min(best[place], time.perf_counter() - begin)
    return best[0], best[1]
