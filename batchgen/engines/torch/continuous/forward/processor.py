"""What the processor computes by itself."""

import platform
from functools import cache

import torch


@cache
def has_bfloat16_products() -> bool:
    """Whether products of bfloat16 have instructions here, which oneDNN uses: AMX or AVX-512 on x86, BF16 on ARM.

    Elsewhere they are computed with conversions, slower than in float32.
    """
    try:
        usable = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        flags = torch.cpu.get_capabilities()
    except (AttributeError, RuntimeError):
        # Private in torch, or not built into it.
        return False
    if platform.machine() in ("x86_64", "AMD64"):
        return usable and bool(flags.get("amx_bf16") or flags.get("avx512_bf16"))
    return usable


@cache
def has_bfloat16_tiles() -> bool:
    """Whether bfloat16 is multiplied in tiles (AMX), several times as fast as float32; other instructions take about half its time."""
    return has_bfloat16_products() and bool(torch.cpu.get_capabilities().get("amx_bf16"))
