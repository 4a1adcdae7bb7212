"""Threads for products: each computes some of the panels. See `kernels/team.py`."""

import os
import threading
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from batchgen.engines.torch.continuous.forward.kernels.jit import Ints
from batchgen.engines.torch.continuous.forward.kernels.team import (
    ASLEEP,
    DONE,
    FIRST,
    GATED,
    MAILBOX,
    POSTED,
    finish,
    post,
    serve,
    serve_tiles,
)

Product = tuple[int, ...]
"""The arguments of a kernel before the panels."""


class ProductThread:
    """A thread that computes what is posted to it; it does not keep the process alive."""

    def __init__(self, serve: Callable[..., None]) -> None:
        """Start it; `serve`: the kernel that computes what is posted."""
        self._box: Ints = np.zeros(MAILBOX, np.int64)
        self._wake = threading.Event()
        self._post, self._finish = _compiled()
        self._serve = serve
        threading.Thread(target=self._run, name="products", daemon=True).start()

    def post(self, product: Product, first: int, last: int, *, gated: bool) -> None:
        """Begin to compute some panels; the former product is finished."""
        self._box[GATED] = gated
        self._box[FIRST : FIRST + len(product) + 2] = (*product, first, last)
        self._post(self._box)
        if self._box[ASLEEP]:
            self._wake.set()

    def finish(self) -> None:
        """Wait until the product is computed."""
        self._finish(self._box)
        while self._box[DONE] != self._box[POSTED]:
            os.sched_yield()  # other programs use the processor that the thread needs
            self._finish(self._box)

    def _run(self) -> None:
        while True:
            self._serve(self._box)
            self._wake.wait()
            self._wake.clear()
            self._box[ASLEEP] = 0


def compute_panels(
    compute: Callable[..., None], product: Product, panels: int, threads: int, *, gated: bool
) -> None:
    """Compute all panels of a product of float32; `compute` is the kernel for the part of this thread."""
    _compute(compute, product, panels, _threads(min(threads, panels) - 1), gated=gated)


def compute_tile_panels(
    compute: Callable[..., None], product: Product, panels: int, threads: int
) -> None:
    """Compute all panels of a product in tiles."""
    _compute(compute, product, panels, _tile_threads(min(threads, panels) - 1), gated=False)


def _compute(
    compute: Callable[..., None],
    product: Product,
    panels: int,
    others: Sequence[ProductThread],
    *,
    gated: bool,
) -> None:
    parts = len(others) + 1
    ends = [panels * n // parts for n in range(parts + 1)]
    for other, first, last in zip(others, ends[1:-1], ends[2:], strict=True):
        other.post(product, first, last, gated=gated)
    compute(*product, 0, ends[1])
    for other in others:
        other.finish()


@cache
def _threads(count: int) -> Sequence[ProductThread]:
    return [ProductThread(serve()) for _ in range(count)]


@cache
def _tile_threads(count: int) -> Sequence[ProductThread]:
    return [ProductThread(serve_tiles()) for _ in range(count)]


@cache
def _compiled() -> tuple[Callable[..., None], Callable[..., None]]:
    return post(), finish()


# Threads do not survive a fork: a child starts its own.
for _kept in (_threads, _tile_threads):
    os.register_at_fork(after_in_child=_kept.cache_clear)
