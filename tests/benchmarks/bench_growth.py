"""Whether work that is ten times as long goes on as fast and in as little memory: new tokens a second at 1k and 10k rows.

A tiny random model of the Llama family, so that it ends; each size runs in a process of its own. What could grow is the
engine's and the pipeline's own: queues, counts, parts, pages. Rates may differ by 5 %, peak memory by a few MiB.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SIZES = (1_000, 10_000)
NEW_TOKENS = 64
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
WORDS = "the order was sent on Monday and has not arrived yet please tell me where it is".split()  # noqa: SIM905  # a sentence reads better


def write_model(folder: Path) -> None:
    """A random model with the starter's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from batchgen.models.resolve import resolve_model

    tokenizer = AutoTokenizer.from_pretrained(resolve_model("demo:smollm2-135m").folder)
    config: Any = AutoConfig.for_model("llama", vocab_size=len(tokenizer), **SHAPE)
    torch.manual_seed(0)
    loader: Any = AutoModelForCausalLM
    loader.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_rows(path: Path, rows: int) -> None:
    chance = random.Random(1)
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(5, 80))) for _ in range(rows)]
    pq.write_table(pa.table({"text": texts}), path)


def measured(rows: int, folder: Path) -> dict[str, float]:
    """Run the job in this process and say what it took."""
    from batchgen.job.load import load_job
    from batchgen.runner.run import run

    write_rows(folder / f"rows-{rows}.parquet", rows)
    job = folder / f"job-{rows}.yaml"
    job.write_text(
        json.dumps(
            {
                "version": 1,
                "name": "growth",
                "input": {"path": f"rows-{rows}.parquet"},
                "prompt": {"user": "{{ text }}"},
                "model": "model",
                "decoding": {"max_new_tokens": NEW_TOKENS},
                "batching": {"part_rows": 512},
                "output": {"path": f"out-{rows}"},
            }
        )
    )
    result = run(load_job(job))
    return {
        "rows": rows,
        "seconds": result.seconds,
        "new_tokens": result.counts.output_tokens,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    print(f"{'rows':>8} {'seconds':>8} {'new tok/s':>10} {'peak MiB':>9}")
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "model")
        for rows in SIZES:
            done = subprocess.run(
                [sys.executable, __file__, str(rows), folder], check=True, stdout=subprocess.PIPE
            )
            m = json.loads(done.stdout.splitlines()[-1])
            rates.append(m["new_tokens"] / m["seconds"])
            print(
                f"{rows:>8,} {m['seconds']:>8.1f} {rates[-1]:>10,.0f} {m['peak_mib']:>9,.0f}",
                flush=True,
            )
    print(f"10k rows against 1k: {rates[-1] / rates[0]:.2f} of the rate")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measured(int(sys.argv[1]), Path(sys.argv[2]))))
    else:
        main()
