"""The peak of memory while a model is loaded, against the memory that its run needs; each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from batchgen.engines.torch.continuous.forward.products.linear import packing_works

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif(not packing_works(), reason="no packed products on this machine"),
]
ROOT = Path(__file__).resolve().parents[4]
MOST = 1.15
CHILD = """
import sys
from pathlib import Path
from batchgen.engines.torch.engine import open_torch_engine
from batchgen.engines.torch.tier import NoText
from batchgen.job.spec import Batching, ModelSpec
from batchgen.records import Request, ResolvedDecoding
from transformers.models.llama import modeling_llama
from transformers.generation import utils

def kilobytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))

before = kilobytes("VmRSS")
spec = ModelSpec(path="m", dtype=sys.argv[2], device="cpu")
engine = open_torch_engine(
    Path(sys.argv[1]), spec, batching=Batching(), workers=1, decode=NoText(), should_stop=lambda: False
)
peak = kilobytes("VmHWM")
rows = [Request(n, 0, list(range(5, 37)), ResolvedDecoding(max_new_tokens=2), 0) for n in range(4)]
assert len(list(engine.generate(rows))) == 4
print(engine.facts()["tier"], before, peak, kilobytes("VmRSS"), sep="|")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 million parameters in bfloat16."""
    config = AutoConfig.for_model(
        "llama",
        vocab_size=16_000,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("model")
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(made)
    return made


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_peak_of_loading_is_near_what_the_run_needs(
    folder: Path, tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), dtype],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tier, *sizes = ended.stdout.strip().splitlines()[-1].split("|")
    before, peak, needed = map(int, sizes)
    assert tier == "continuous, own forward"
    assert peak <= MOST * needed
    # Without Python and its libraries.
    assert peak - before <= MOST * (needed - before)
