"""Local models through torch and transformers."""

from batchgen.engines.torch.engine import (
    TorchEngine,
    estimate_torch_engine,
    open_torch_engine,
)

__all__ = ["TorchEngine", "estimate_torch_engine", "open_torch_engine"]
