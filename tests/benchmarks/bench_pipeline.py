"""The pipeline without a model: echo, tokenizer on, rows of about 100 tokens, at 10k, 100k and 1M rows.

Each size runs in a separate process. Printed: rows a second, peak memory, and where the time goes: rendering and
tokenization against everything else (reading, planning, collecting, writing).
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.jobfile.load import load_job
from batchgen.prompts.prepare import Prepared, Preparer
from batchgen.records import Row
from batchgen.run.run import run

SIZES = (10_000, 100_000, 1_000_000)
WORDS = (  # noqa: SIM905  # a sentence is easier to read than a list of its words
    "the order was sent on Monday and has not arrived yet please tell me where it is because my sister "
    "needs the boots for a walk in the hills next week and the old pair let the water in"
).split()


def write_rows(path: Path, rows: int) -> None:
    """Rows with prompts of about 100 tokens, including system text and chat template."""
    chance = random.Random(1)
    with pq.ParquetWriter(path, pa.schema([("n", pa.int64()), ("text", pa.string())])) as writer:
        for first in range(0, rows, 10_000):
            texts = [
                " ".join(chance.choices(WORDS, k=chance.randint(60, 104))) for _ in range(10_000)
            ]
            numbers = range(first, first + 10_000)
            writer.write_table(pa.table({"n": pa.array(numbers, pa.int64()), "text": texts}))


def measured(rows: int, folder: Path) -> dict[str, float]:
    """Run the job in this process and return its figures."""
    spent = 0.0
    prepare = Preparer.prepare

    def timed(self: Preparer, rows: Sequence[Row]) -> list[Prepared]:
        nonlocal spent
        began = time.perf_counter()
        prepared = prepare(self, rows)
        spent += time.perf_counter() - began
        return prepared

    setattr(Preparer, "prepare", timed)  # noqa: B010  # a stopwatch around one step; nothing else changes
    job = folder / "job.yaml"
    job.write_text(
        json.dumps(
            {
                "version": 1,
                "name": "pipeline",
                "input": {"path": "rows.parquet"},
                "prompt": {"system": "Answer briefly.", "user": "{{ text }}"},
                "model": {"path": "demo:smollm2-135m", "engine": "echo"},
                "decoding": {"max_new_tokens": 16},
                "output": {"path": "out"},
            }
        )
    )
    began = time.perf_counter()
    result = run(load_job(job))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": rows,
        "tokens": result.counts.input_tokens / rows,
        "seconds": seconds,
        "preparing": spent,
        "peak_mib": peak,
    }


def main() -> None:
    print(
        f"{'rows':>10} {'tokens/row':>11} {'seconds':>8} {'rows/s':>8} {'render+tokenize':>16} {'rest':>6} {'peak MiB':>9}"
    )
    for rows in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            write_rows(Path(folder) / "rows.parquet", rows)
            done = subprocess.run(
                [sys.executable, __file__, str(rows), folder], check=True, stdout=subprocess.PIPE
            )
        m = json.loads(done.stdout)
        share = m["preparing"] / m["seconds"]
        print(
            f"{rows:>10,} {m['tokens']:>11.0f} {m['seconds']:>8.1f} {rows / m['seconds']:>8,.0f} "
            f"{share:>16.0%} {1 - share:>6.0%} {m['peak_mib']:>9,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measured(int(sys.argv[1]), Path(sys.argv[2]))))
    else:
        main()
