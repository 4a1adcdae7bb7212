"""The shadow device refuses what a GPU refuses, and counts what makes the host wait."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.engines.torch.shadow.shadow_device import (
    CUDA,
    CpuOnlyError,
    DeviceMixError,
    Shadow,
    ShadowTensor,
)

OTHER = torch.device("cuda", 1)


def there() -> Tensor:
    return torch.arange(6.0).view(2, 3).pin_memory().to(CUDA, non_blocking=True)


def attention(keys: Tensor, values: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(
        there()[None, None], keys[None, None], values[None, None]
    )


WITHOUT_WAITING: dict[str, Callable[[], object]] = {
    "a copy from pinned memory": there,
    "arithmetic with a number of the host": lambda: there() * 2 + torch.tensor(1.0),
    "products": lambda: there() @ there().T,
    "a view": lambda: there()[:, 1:].view(torch.int32),
    "indices on the device": lambda: there()[torch.zeros(2, dtype=torch.int64, device=CUDA)],
    "a mask that is filled": lambda: there().masked_fill_(there() > 2, 0.0),
    "new tensors": lambda: torch.arange(3, device="cuda") + there().new_zeros(3).long(),
    "an empty tensor like one of the host": lambda: torch.empty_like(torch.ones(2), device=CUDA),
    "attention": lambda: attention(there(), there()),
    "shape, dtype and device": lambda: (there().shape, there().dtype, there().device, len(there())),
}
WAITS: dict[str, Callable[[], object]] = {
    "a tensor of a list": lambda: torch.tensor([1, 2], device=CUDA),
    "a copy from memory that is not pinned": lambda: torch.ones(2).to(CUDA, non_blocking=True),
    "a list": lambda: there().tolist(),
    "a copy to the host": lambda: there().cpu(),
    "a number": lambda: there().sum().item(),
    "a condition": lambda: bool(there().any()),
    "nonzero": lambda: there().nonzero(),
    "a mask as an index": lambda: there()[there() > 2],
    "indices of the host": lambda: there()[torch.tensor([0])],
    "a comparison of all": lambda: torch.equal(there(), there()),
    "an assignment from the host": lambda: there().copy_(torch.ones(2, 3)),
    "synchronize": torch.cuda.synchronize,
}
REFUSED: dict[str, tuple[type[Exception], Callable[[], object]]] = {
    "two devices": (DeviceMixError, lambda: there() + torch.ones(3)),
    "two GPUs": (DeviceMixError, lambda: there() + torch.ones(3, device=OTHER)),
    "attention to the host": (
        DeviceMixError,
        lambda: attention(there(), torch.ones(2, 3)),
    ),
    "numpy": (RuntimeError, lambda: there().numpy()),
    "an array": (RuntimeError, lambda: np.asarray(there())),
    "oneDNN": (CpuOnlyError, lambda: torch.ops.mkldnn._reorder_linear_weight(there(), None)),
    "fused attention of a CPU": (
        CpuOnlyError,
        lambda: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            *[there()[None, None]] * 3
        ),
    ),
    "a copy to the host without waiting": (
        RuntimeError,
        lambda: there().to("cpu", non_blocking=True),
    ),
}


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("name", [*WITHOUT_WAITING, *WAITS])
def test_what_makes_the_host_wait_is_counted(name: str, inference: bool) -> None:
    with Shadow() as shadow, torch.inference_mode(inference):
        (WITHOUT_WAITING | WAITS)[name]() if name != "synchronize" else torch.cuda.synchronize()
    assert shadow.waits.total == (name in WAITS), shadow.waits.counts


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("name", REFUSED)
def test_what_a_gpu_refuses_is_an_error(name: str, inference: bool) -> None:
    error, work = REFUSED[name]
    with Shadow(), torch.inference_mode(inference), pytest.raises(error):
        work()


def test_results_stay_on_the_device_and_are_those_of_the_cpu() -> None:
    with Shadow():
        x = there()
        same = x.to(CUDA)
        y = x.add_(1)
        total = (x @ x.T).sum()
        assert same is x
        assert y is x
        assert isinstance(total, ShadowTensor)
        assert (total.device, total.is_cuda, total.device.type) == (CUDA, True, "cuda")
        assert total.item() == float(((torch.arange(6.0) + 1).view(2, 3) @ (torch.arange(6.0) + 1).view(2, 3).T).sum())  # fmt: skip


def test_outside_of_the_block_torch_is_as_before() -> None:
    with Shadow():
        assert torch.cuda.is_available()
    assert not torch.cuda.is_available()
    assert type(torch.ones(2) + 1) is Tensor
