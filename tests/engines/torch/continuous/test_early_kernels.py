"""Kernels that are compiled while a model is converted: those that a run needs, in a process that ends with the run."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from batchgen.engines.early_compilation import AttentionHeads
from batchgen.engines.torch.continuous import early_kernels
from batchgen.engines.torch.continuous.early_kernels import compile_kernels_early
from batchgen.job.spec import ModelSpec

NEEDED = """
import torch
from batchgen.engines.torch.continuous.forward.products import compiled_linear
from batchgen.engines.torch.continuous.forward.kernels import matmul, norm, paged, team
from batchgen.engines.torch.continuous.forward.kernels.compile_early import compile_kernels
from tests.engines.torch.tiny_models import engine, prompts, requests, tiny_model
from batchgen.records import ResolvedDecoding

made = set()

def recorded(signature, function, real=paged.kernel):
    constants = [cell.cell_contents for cell in function.__closure__ or ()]
    made.add((function.__qualname__, signature, str(constants)))
    return real(signature, function)

for module in (matmul, norm, paged, team):
    module.kernel = recorded
model = tiny_model("llama", torch.float32)
config = model.config
list(engine(model).generate(requests(prompts(2), ResolvedDecoding(max_new_tokens=2))))
compiled_linear.compiled_is_faster()
needed = set(made)
made.clear()
compile_kernels(config.num_attention_heads // config.num_key_value_heads, config.head_dim)
assert len(needed) >= 4 and needed <= made, needed - made
"""

STAYS = """
import sys, time
from pathlib import Path
Path(__file__).with_name("started").write_text(" ".join(sys.argv[1:]))
time.sleep(60)
"""


@pytest.mark.soak
def test_the_kernels_that_a_run_needs_are_compiled(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "BATCHGEN_CACHE": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    subprocess.run([sys.executable, "-c", NEEDED], env=environment, check=True, timeout=300)


def test_the_process_gets_the_heads_and_ends_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stays.py").write_text(STAYS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(early_kernels, "_MODULE", "stays")
    started = tmp_path / "started"
    processes: list[Any] = []
    real: Any = subprocess.Popen

    def recorded(*arguments: object, **options: object) -> Any:
        processes.append(real(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", recorded)
    with compile_kernels_early(ModelSpec(path="m"), AttentionHeads(3, 64)):
        deadline = time.monotonic() + 60
        while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert started.read_text() == "3 64"
        assert processes[0].poll() is None
    assert processes[0].poll() is not None


@pytest.mark.parametrize("changed", [{"dtype": "bfloat16"}, {"device": "cuda"}])
def test_kernels_of_other_models_are_not_compiled(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with compile_kernels_early(
        ModelSpec.model_validate({"path": "m", **changed}), AttentionHeads(3, 64)
    ):
        pass
