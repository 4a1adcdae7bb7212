"""Kernels compiled by numba for decoding on a CPU, where torch has no fast operation.

    decode.py    attention of one new token of each row to the row's prefix and its own pages
    softmax.py   softmax of scores
    norm.py      RMSNorm
    jit.py       compilation and the prefetch instruction

Float32 on a CPU. Each row is computed identically in any batch. Non-finite numbers stay non-finite: no flag lets the
compiler assume otherwise. `kernel_dispatch.py` decides whether a kernel is used.
"""
