"""Kernels compiled by numba for a CPU, where torch has no fast operation, or none with the same bits in any batch.

    paged.py     attention of tokens to the pages of their rows, those of a shared prefix first
    product.py   small products whose bits depend on nothing else
    softmax.py   softmax of scores
    norm.py      RMSNorm
    rotary.py    rotary embedding of queries and keys in bfloat16
    jit.py       compilation, the prefetch instruction, conversions of bfloat16

Float32 on a CPU; of bfloat16, kernels read and write the bits. Each row is computed identically in any batch. Non-finite numbers stay non-finite: no flag lets the
compiler assume otherwise. `kernel_dispatch.py` decides whether a kernel is used.
"""
