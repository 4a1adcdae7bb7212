"""Tensors arrive unchanged, by one copy that does not wait for the device."""

import pytest
import torch

from batchgen.decoding.upload import upload, upload_together
from tests.engines.torch.shadow.shadow_device import CUDA, Shadow

TENSORS = [
    torch.tensor([[1, -2], [3, 2**40]]),
    torch.tensor([0.1, -torch.inf], dtype=torch.float64),
    torch.empty(0, dtype=torch.int64),
    torch.tensor([[5, 6, 7]]).T,
]


def test_on_the_cpu_nothing_is_copied() -> None:
    assert upload(TENSORS[0], "cpu") is TENSORS[0]
    assert all(a is b for a, b in zip(upload_together(TENSORS, "cpu"), TENSORS, strict=True))


@pytest.mark.parametrize("together", [True, False])
def test_values_and_shapes_arrive_without_waiting(together: bool) -> None:
    with Shadow() as shadow:
        found = (
            upload_together(TENSORS, CUDA) if together else [upload(one, CUDA) for one in TENSORS]
        )
        assert shadow.waits.total == 0
        assert {one.device for one in found} == {CUDA}
        for one, expected in zip(found, TENSORS, strict=True):
            assert torch.equal(one.cpu(), expected)
            assert one.dtype == expected.dtype
