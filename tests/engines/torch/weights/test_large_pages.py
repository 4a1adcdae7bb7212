"""Memory for weights: places, what the system gives, and that it is returned."""

import re
import sys
from pathlib import Path

import pytest
import torch

from batchgen.engines.torch.weights.large_pages import LARGE_PAGE, LargePages

SHAPES = [(3, 5), (1536, 576), (49152, 576), (7,), (576, 576)]
"""The third one is larger than a block."""
_ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def kilobytes(kind: str) -> int:
    return int(
        re.findall(rf"^{kind}: +(\d+)", Path("/proc/self/smaps_rollup").read_text(), re.M)[0]
    )


def test_tensors_have_places_of_their_own_that_begin_at_a_cache_line() -> None:
    memory = LargePages()
    made = [memory.empty(shape).fill_(number) for number, shape in enumerate(SHAPES)]
    for number, (tensor, shape) in enumerate(zip(made, SHAPES, strict=True)):
        assert (tuple(tensor.shape), tensor.dtype) == (shape, torch.float32)
        assert tensor.is_contiguous()
        assert tensor.data_ptr() % 64 == 0
        assert (tensor == number).all()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_returned_with_the_last_tensor() -> None:
    before = kilobytes("Rss")
    memory = LargePages()
    tensors = [memory.empty((LARGE_PAGE,)).fill_(1) for _ in range(30)]
    assert kilobytes("Rss") - before > 200_000
    del tensors, memory
    assert kilobytes("Rss") - before < 50_000


@pytest.mark.skipif(
    not _ENABLED.exists() or "[never]" in _ENABLED.read_text(), reason="no large pages here"
)
def test_the_system_gives_large_pages() -> None:
    before = kilobytes("AnonHugePages")
    memory = LargePages()
    tensors = [memory.empty((1536, 576)).fill_(1) for _ in range(18)]
    # The block has 64 MB. On a machine with fragmented memory some pages are small.
    assert kilobytes("AnonHugePages") - before > 30_000
    del tensors


def test_too_large_a_tensor_is_an_error_of_memory() -> None:
    with pytest.raises(MemoryError, match=r"cannot allocate [\d,]+ MB"):
        LargePages().empty((2**45,))
