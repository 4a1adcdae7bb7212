"""Compiles the kernels of a float32 model into numba's cache on disk: `python -m … GROUP WIDTH`, see `AttentionHeads`.

Imports no torch. A run starts it before it converts a model (`continuous/early_kernels.py`).
"""

import os
import sys

from batchgen.engines.torch.continuous.forward.kernels import matmul, norm, paged, team
from batchgen.planning.host_processor import read_processor
from batchgen.planning.kv_cache_plan import PAGE_TOKENS, PROBE_PAGE_TOKENS
from batchgen.storage.processes import end_with_parent

_NUMBER = "float32"


def compile_kernels(group: int, width: int) -> None:
    """Compile those that take longest first; each is in the cache before the next one begins."""
    for page in (PAGE_TOKENS, PROBE_PAGE_TOKENS):
        paged.attend(group, (width, width, page), _NUMBER)
    if {"avx2", "fma"} <= read_processor().flags:
        for compile_one in (team.serve, matmul.multiply, matmul.multiply_gated):
            compile_one()
        team.post()
        team.finish()
    paged.put(_NUMBER)
    norm.rms_norm(_NUMBER)


if __name__ == "__main__":
    end_with_parent(os.getppid())
    compile_kernels(int(sys.argv[1]), int(sys.argv[2]))
