"""Allocation of keys and values."""

import faulthandler
import os
import signal

import pytest
import torch

from batchgen.engines.torch.continuous.kv_store import ZerosFactory, private_zeros, shared_zeros
from batchgen.errors import ResourceError

LIKE = torch.empty(0)
KINDS = pytest.mark.parametrize("zeros", [private_zeros, shared_zeros])


@KINDS
def test_a_failed_allocation_is_a_resource_error(zeros: ZerosFactory) -> None:
    with pytest.raises(
        ResourceError, match=r"cannot allocate [\d,]+ MB for keys, values and logits"
    ):
        zeros((2**48,), LIKE)


@KINDS
def test_zeros_have_the_requested_shape_and_dtype(zeros: ZerosFactory) -> None:
    made = zeros((3, 2), LIKE.double())
    assert (made.shape, made.dtype) == ((3, 2), torch.float64)
    assert not made.any()
    assert zeros((0, 2), LIKE).shape == (0, 2)


@pytest.mark.parametrize(
    ("zeros", "seen", "signal_number"),
    [(private_zeros, 0.0, signal.SIGSEGV), (shared_zeros, 7.0, 0)],
)
def test_only_shared_zeros_are_accessible_after_a_fork(
    zeros: ZerosFactory, seen: float, signal_number: int
) -> None:
    made = zeros((1,), LIKE)
    address = made.numpy()
    if (child := os.fork()) == 0:
        faulthandler.disable()
        address[0] = 7.0
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal_number
    assert float(made[0]) == seen
