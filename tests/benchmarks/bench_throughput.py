"""New tokens a second against length-sorted `generate` with 48 rows, on the same token ids, in one session.

The two alternate, each in a separate process; the time starts when the model is loaded; medians of three.
Workloads and the peer are the scripts in ../shared/bench, the workloads mixed, skewed, fewshot and labels:
`python -m tests.benchmarks.bench_throughput [WORKLOAD ...]`. All four take most of an hour on two cores.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT.parent / "shared" / "bench"
WORKLOADS = ("mixed", "skewed", "fewshot", "labels")
ROUNDS = 3


def ours(model: str, workload: str) -> dict[str, float]:
    """Run one workload through the engine, in this process."""
    from batchgen.engines.engine_registry import open_engine
    from batchgen.job.spec import Batching, ModelSpec
    from batchgen.models.find_model import resolve_model
    from batchgen.planning.batches import sort_by_length
    from batchgen.records import Request, ResolvedDecoding
    from tests.plain_decoder import PlainDecoder

    work = json.loads(Path(workload).read_text())
    folder = resolve_model(model).folder

    def request(index: int, prompt: dict[str, object]) -> Request:
        most = prompt.get("max_new_tokens", work["max_new_tokens"])
        decoding = ResolvedDecoding(
            max_new_tokens=int(str(most)), end_token_ids=frozenset(work["eos"])
        )
        ids = prompt["ids"]
        assert isinstance(ids, list)
        return Request(index, 0, ids, decoding, index)

    engine = open_engine(
        ModelSpec(path=model),
        folder=folder,
        batching=Batching(),
        decode=PlainDecoder(str),
        should_stop=lambda: False,
    )
    requests = sort_by_length(request(i, p) for i, p in enumerate(work["prompts"]))
    began = time.perf_counter()
    made = sum(len(done.token_ids) for done in engine.generate(requests))
    seconds = time.perf_counter() - began
    found = {"seconds": seconds, "new_tokens": made, "new_tokens_per_s": made / seconds}
    mfu = engine.facts().get("mfu")
    return found | ({"mfu": mfu} if isinstance(mfu, float) else {})


def peer(folder: str, workload: str) -> dict[str, float]:
    """Run the peer's script; its result is its last line of output."""
    command = [sys.executable, str(BENCH / "peers.py"), "sorted", folder, workload]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours_alone(model: str, workload: str) -> dict[str, float]:
    module = "tests.benchmarks.bench_throughput"
    command = [sys.executable, "-m", module, "--one", model, workload]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(name: str, folder: str, path: str) -> None:
    """Run both on one workload alternately, and print the ratio of their medians."""
    rates: dict[str, list[float]] = {"sorted": [], "batchgen": []}
    for _ in range(ROUNDS):
        for who, taken in rates.items():
            found = peer(folder, path) if who == "sorted" else ours_alone("demo:smollm2-135m", path)
            taken.append(found["new_tokens_per_s"])
            mfu = f"  MFU {found['mfu']:.2f}" if "mfu" in found else ""
            print(
                f"{name:<8} {who:<9} {found['seconds']:7.1f} s {taken[-1]:7.1f} tok/s{mfu}",
                flush=True,
            )
    ratio = statistics.median(rates["batchgen"]) / statistics.median(rates["sorted"])
    print(f"{name:<8} batchgen / sorted, medians of {ROUNDS}: {ratio:.2f}", flush=True)


def main(workloads: list[str]) -> None:
    if not BENCH.is_dir():
        print("needs ../shared/bench")
        return
    from batchgen.models.find_model import resolve_model

    folder = str(resolve_model("demo:smollm2-135m").folder)
    with tempfile.TemporaryDirectory() as made:
        subprocess.run(
            [sys.executable, str(BENCH / "make_workloads.py"), folder, made],
            check=True,
            capture_output=True,
        )
        for name in workloads:
            compare(name, folder, str(Path(made) / f"{name}.json"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(ours(*sys.argv[2:4])))
    else:
        main(sys.argv[1:] or list(WORKLOADS))
