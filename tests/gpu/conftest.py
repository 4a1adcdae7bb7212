"""What a GPU must show. On a machine with only torch, transformers, numpy, pydantic and pytest, without internet:

    python -m pytest tests/gpu --confcutdir=tests/gpu -rs          all that can be tested there
    python -m tests.gpu.time_engine                                our engine and plain `generate`, timed

Models have random weights and are made on the spot. Without a GPU the tests are skipped; with BATCHGEN_TEST_DEVICE=shadow
they run on the shadow device of `tests/engines/torch/shadow`, or are skipped if they measure a real one.
"""

import os
from collections.abc import Iterator

import pytest
import torch

from tests.engines.torch.shadow.shadow_device import CUDA, Shadow

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ON_SHADOW = os.environ.get("BATCHGEN_TEST_DEVICE") == "shadow"


@pytest.fixture
def device() -> Iterator[torch.device]:
    """A GPU, or the shadow device if the environment asks for it."""
    if torch.cuda.is_available():
        yield CUDA
    elif ON_SHADOW:
        with Shadow():
            yield CUDA
    else:
        pytest.skip("needs a CUDA device; BATCHGEN_TEST_DEVICE=shadow runs it on the CPU")


@pytest.fixture
def gpu() -> torch.device:
    """A real GPU."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return CUDA
