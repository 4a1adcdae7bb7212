"""Share of prompt tokens that are padding, sorted within parts and unsorted, for the public prompts in ../shared/data."""

import json
from pathlib import Path
from typing import Literal

from batchgen.models.find_model import resolve_model
from batchgen.planning.batches import BatchLimits, cut_batches, padding_share, sort_by_length
from batchgen.records import Request, ResolvedDecoding

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ROWS, TOKENS, NEW = 64, 130_000, 64
FIELDS = {"gsm8k_test.jsonl": "question", "belle_eval.jsonl": "question"}


def lengths() -> list[int]:
    """Token counts of all prompts, files interleaved as a mixed input would be."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve_model("demo:smollm2-135m").folder)
    prompts: list[str] = []
    for name, field in FIELDS.items():
        prompts += [json.loads(line)[field] for line in (DATA / name).read_text().splitlines()]
    for name in ("vicuna.jsonl", "mt_bench.jsonl"):
        prompts += [json.loads(line)["turns"][0] for line in (DATA / name).read_text().splitlines()]
    prompts.sort(key=lambda text: hash_of(text))
    return [len(ids) for ids in tokenizer(prompts)["input_ids"]]


def hash_of(text: str) -> bytes:
    import hashlib

    return hashlib.sha256(text.encode()).digest()


def main() -> None:
    if not DATA.is_dir():
        print("needs ../shared/data")
        return
    found = lengths()

    requests = [
        Request(i, 0, range(n), ResolvedDecoding(max_new_tokens=NEW), 0)
        for i, n in enumerate(found)
    ]

    def share(part: int, sort: Literal["length", "none"]) -> float:
        limits = BatchLimits(ROWS, TOKENS, sort)
        parts = [requests[at : at + part] for at in range(0, len(requests), part)]
        ordered = [sort_by_length(rows) if sort == "length" else rows for rows in parts]
        batches = [batch for rows in ordered for batch in cut_batches(rows, limits)]
        return padding_share([len(r.token_ids) for r in batch] for batch in batches)

    print(
        f"{len(found):,} prompts of {min(found)}-{max(found)} tokens, {NEW} new, up to {ROWS} rows"
    )
    print(f"input order         {share(2048, 'none'):.1%} padding")
    for part in (512, 2048):
        print(f"sorted, parts of {part:<5}{share(part, 'length'):.1%} padding")


if __name__ == "__main__":
    main()
