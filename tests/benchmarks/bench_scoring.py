"""Scoring existing answers: exact match, number, token F1, ROUGE-L and length, at 100k and 1M rows.

Answers are worked solutions of about 50 words that end with a number, references such numbers; every tenth answer is in
Chinese. Each size runs in a separate process. What could grow are the tallies: peak memory should not.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SIZES = (100_000, 1_000_000)
METRICS = ("exact", "number", "token_f1", {"type": "rouge", "variants": ["L"]}, "length")
WORDS = (  # noqa: SIM905  # a sentence is easier to read than a list of its words
    "She sells the eggs that are left at the market for two dollars each so every day she makes as much as the number "
    "of eggs times the price which comes to more than last week"
).split()
CHARACTERS = "每天剩下的鸡蛋在市场上以两元一个的价格出售所以她每天的收入等于数量乘以价格比上周多"


def write_rows(path: Path, rows: int) -> None:
    chance = random.Random(1)
    columns = [("response", pa.string()), ("answer", pa.string())]
    with pq.ParquetWriter(path, pa.schema(columns)) as writer:
        for first in range(0, rows, 10_000):
            responses = [_answer(chance, n) for n in range(first, first + 10_000)]
            right = [f"#### {n % 97}" for n in range(10_000)]
            writer.write_table(pa.table({"response": responses, "answer": right}))


def _answer(chance: random.Random, n: int) -> str:
    if n % 10 == 0:
        return "".join(chance.choices(CHARACTERS, k=60)) + f"。答案是{n % 89}。"
    return " ".join(chance.choices(WORDS, k=50)) + f".\n#### {n % 89}"


def measured(rows: int, folder: Path) -> dict[str, float]:
    """Score the file in this process and return its figures."""
    import batchgen

    began = time.perf_counter()
    file, out = folder / "rows.parquet", folder / "out"
    result = batchgen.score(file, METRICS, reference="answer", output=out)
    seconds = time.perf_counter() - began
    assert all(row.n == rows for row in result.metrics)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": peak}


def main() -> None:
    print(f"{'rows':>10} {'seconds':>8} {'rows/s':>8} {'peak MiB':>9}")
    for rows in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            write_rows(Path(folder) / "rows.parquet", rows)
            done = subprocess.run(
                [sys.executable, __file__, str(rows), folder], check=True, stdout=subprocess.PIPE
            )
        m = json.loads(done.stdout)
        rate = rows / m["seconds"]
        print(f"{rows:>10,} {m['seconds']:>8.1f} {rate:>8,.0f} {m['peak_mib']:>9,.0f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measured(int(sys.argv[1]), Path(sys.argv[2]))))
    else:
        main()
