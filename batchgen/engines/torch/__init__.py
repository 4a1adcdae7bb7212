"""Local models through torch and transformers."""

import os

# Large memory pages for torch, which reads this before its first tensor: fewer TLB misses on large activations save a tenth of a
# prefill's time on two cores. Packed weights have memory of their own, see `weights/large_pages.py`.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
