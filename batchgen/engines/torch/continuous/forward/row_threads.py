"""Threads for kernels that use one thread each: every thread computes a run of rows.

The threads wait between kernels. Waking them takes as long as a kernel with little work, which the caller computes alone.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

Run = tuple[int, int]
"""The first row and the last + 1."""


def compute_runs(compute: Callable[[int, int], None], runs: Sequence[Run]) -> None:
    """Call `compute(first, last)` for all runs at the same time, for the first one in this thread.

    It must release the GIL. An error of a run is raised when all runs have ended.
    """
    others = [_threads(len(runs) - 1).submit(compute, *run) for run in runs[1:]]
    try:
        compute(*runs[0])
    finally:
        wait(others)
    for other in others:
        other.result()


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="rows")


# Threads do not survive a fork: a child starts its own.
os.register_at_fork(after_in_child=_threads.cache_clear)
