"""Copies from the host to a device, without waiting for what the device computes.

A plain copy to a GPU waits for all of its earlier work. A copy from pinned memory is queued after that work instead.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU on a device: itself if that is the CPU."""
    if torch.device(device).type == "cpu":
        return tensor
    if tensor.numel() == 0:
        return torch.empty_like(tensor, device=device)
    return tensor.pin_memory().to(device, non_blocking=True)


def upload_together(tensors: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """The same for several tensors of int64 or float64, by one copy."""
    if torch.device(device).type == "cpu":
        return list(tensors)
    flat = torch.cat([tensor.flatten().view(torch.int64) for tensor in tensors])
    parts = torch.split(upload(flat, device), [tensor.numel() for tensor in tensors])
    return [
        part.view(tensor.dtype).view(tensor.shape)
        for part, tensor in zip(parts, tensors, strict=True)
    ]
