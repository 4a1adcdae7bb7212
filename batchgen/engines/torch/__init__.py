"""Local models through torch and transformers."""

import os

# Asks for large pages of memory where torch allocates, which it reads before its first tensor: weights and activations are
# then found with fewer look-ups, a tenth of the time of a prefill on two cores.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from batchgen.engines.torch.engine import TorchEngine, open_torch_engine, torch_workers
from batchgen.engines.torch.estimate import estimate_torch_engine

__all__ = ["TorchEngine", "estimate_torch_engine", "open_torch_engine", "torch_workers"]
