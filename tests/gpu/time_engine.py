"""Times our engine and plain sorted `generate` on one GPU, at half a billion and seven billion parameters.

usage: python -m tests.gpu.time_engine [--sizes 0.5 7] [--rows 512] [--dtype bfloat16] [--device cuda]

Models have random weights and no end token, so that both compute the same number of tokens. One line of JSON for each:
tokens per second, peak memory, and the time of our engine relative to `generate`.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.generate.baseline import sorted_generate
from batchgen.engines.torch.model import LoadedModel
from batchgen.job.spec import Batching
from batchgen.records import Request, ResolvedDecoding
from tests.engines.torch.tiny_models import spell

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000},
    "0.5": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936},
    "7": {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152_064},
}  # fmt: skip
"""Those of Qwen2.5."""


def random_model(size: str, dtype: torch.dtype, device: torch.device) -> LoadedModel:
    config = AutoConfig.for_model("qwen2", max_position_embeddings=8192, **SHAPES[size])
    loader: Any = AutoModelForCausalLM
    with device:
        model = loader.from_config(config, dtype=dtype).to(device).eval()
    model.generation_config = GenerationConfig()
    return LoadedModel(model, device, dtype, encoder_decoder=False, vocab_size=config.vocab_size)


def random_requests(rows: int, vocabulary: int) -> list[Request]:
    """Prompts of 64 to 512 tokens, answers of 32 to 256."""
    source = random.Random(0)
    return [
        Request(
            row,
            0,
            [source.randrange(3, vocabulary) for _ in range(source.randrange(64, 513))],
            ResolvedDecoding(max_new_tokens=source.randrange(32, 257)),
            seed=row,
        )
        for row in range(rows)
    ]


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def compare(size: str, rows: int, dtype: torch.dtype, device: torch.device) -> None:
    model = random_model(size, dtype, device)
    submitted = random_requests(rows, model.vocab_size)
    tokens = sum(one.decoding.max_new_tokens for one in submitted)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    facts = {"card": card, "size": size, "dtype": str(dtype), "rows": rows, "new_tokens": tokens}

    def show(name: str, seconds: float, **more: object) -> None:
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        line = {
            **facts,
            "engine": name,
            "seconds": round(seconds, 2),
            "tokens_per_s": round(tokens / seconds),
        }
        print(json.dumps({**line, "peak_bytes": peak, **more}), flush=True)  # noqa: T201  the result

    sorted_generate(model, submitted[:8], None)
    baseline = seconds_of(lambda: sorted_generate(model, submitted, None), device)
    show("generate", baseline)
    engine = TorchEngine(model, batching=Batching(), decode=spell, should_stop=lambda: False)
    list(engine.generate(submitted[:8]))
    ours = seconds_of(lambda: list(engine.generate(submitted)), device)
    show("batchgen", ours, tier=engine.facts()["tier"], times_as_fast=round(baseline / ours, 2))
    engine.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--sizes", nargs="+", choices=[*SHAPES], default=["0.5", "7"])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--device", default="cuda")
    chosen = parser.parse_args(arguments)
    for size in chosen.sizes:
        compare(size, chosen.rows, getattr(torch, chosen.dtype), torch.device(chosen.device))


if __name__ == "__main__":
    main()
