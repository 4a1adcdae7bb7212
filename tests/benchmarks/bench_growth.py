"""Speed and memory of a job ten times as long: new tokens a second at 1k and 10k rows.

A tiny random model of the Llama family, to limit the time; each size runs in a separate process. What could grow is the
engine's and the pipeline's own: queues, counts, parts, pages. Rates may differ by 5 %, peak memory by a few MiB.
The smaller size runs with one worker, too. `bench_growth.py SMALL LARGE` takes other sizes.
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
    """A random model with the demo model's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from batchgen.models.find_model import resolve_model

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


def measured(rows: int, workers: int, folder: Path) -> dict[str, float]:
    """Run the job in this process and return its figures."""
    from batchgen.jobfile.load import load_job
    from batchgen.run.run import run

    write_rows(folder / f"rows-{rows}.parquet", rows)
    job = folder / f"job-{rows}-{workers}.yaml"
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
                "run": {"workers": workers},
                "output": {"path": f"out-{rows}-{workers}"},
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


def rate(rows: int, workers: int, folder: str) -> float:
    """Run the job in a separate process and print its figures."""
    command = [sys.executable, __file__, "--one", str(rows), str(workers), folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    m = json.loads(done.stdout.splitlines()[-1])
    found = float(m["new_tokens"] / m["seconds"])
    print(
        f"{rows:>8,} {workers:>8} {m['seconds']:>8.1f} {found:>10,.0f} {m['peak_mib']:>9,.0f}",
        flush=True,
    )
    return found


def main(small: int, large: int) -> None:
    print(f"{'rows':>8} {'workers':>8} {'seconds':>8} {'new tok/s':>10} {'peak MiB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "model")
        one, two = rate(small, 1, folder), rate(small, 2, folder)
        many = rate(large, 2, folder)
    print(f"{large:,} rows against {small:,}: {many / two:.2f} of the rate")
    print(f"2 workers against 1: {two / one:.2f} of the rate")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measured(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
    else:
        main(*(map(int, sys.argv[1:3]) if len(sys.argv) > 2 else SIZES))
