"""Finds the row counts at which a model's bfloat16 products give a row the same bits; see `continuous/row_counts.py`.

A few rows are repeated to fill each count. At a count that qualifies, every copy of a row has the same bits, with one thread
and with all. Which counts agree depends on the shape of a product, so one of each shape is tested.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.row_counts import ProductRows, choose_row_counts

COUNTS = (4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Fewer rows than four are padded anyway; more than 512 are not faster."""
_OTHERS = (5, 7, 23, 33, 100, 300, 700)
"""If these agree as well, any count does: so in float32, and in bfloat16 with AVX-512 instead of tiles."""
_DISTINCT = 4

Product = Callable[[Tensor], Tensor]
"""Of [rows, in]: [rows, out]; each row must depend on its own input only."""


@torch.inference_mode()
def probe_row_counts(products: Sequence[tuple[Product, int]]) -> ProductRows | None:
    """The counts to use; None for any, if all of them or no two agree. `products`: one of each shape, and the width of its input."""
    bits: list[dict[int, bytes]] = []
    any_count = True
    for product, width in products:
        generator = torch.Generator().manual_seed(width)
        rows = torch.randn(_DISTINCT, width, generator=generator).bfloat16()
        found = {count: _bits(product, rows, count) for count in COUNTS}
        bits.append({count: one for count, one in found.items() if one is not None})
        any_count = any_count and len(set(found.values())) == 1 and _agree(product, rows, bits[-1])
    if any_count:
        return None
    chosen = choose_row_counts(bits)
    return chosen if chosen is not None and len(chosen.counts) > 1 else None


def _agree(product: Product, rows: Tensor, bits: Mapping[int, bytes]) -> bool:
    """Whether other counts have the same bits."""
    return all(_bits(product, rows, count) == bits.get(COUNTS[-1]) for count in _OTHERS)


def _bits(product: Product, rows: Tensor, count: int) -> bytes | None:
    """The bits of the rows' results among `count` rows; None if they depend on their place or on threads."""
    found: set[bytes] = set()
    many = rows.repeat(-(-count // _DISTINCT), 1)[:count]
    for count_of_threads in sorted({1, torch.get_num_threads()}):
        with threads(count_of_threads):
            result = product(many).clone()
        distinct = result[:_DISTINCT]
        if not torch.equal(result, distinct.repeat(-(-count // _DISTINCT), 1)[:count]):
            return None
        found.add(distinct.contiguous().view(torch.uint8).numpy().tobytes())
    return found.pop() if len(found) == 1 else None


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads in this block."""
    usual = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
