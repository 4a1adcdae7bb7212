"""Share of prompt tokens that are padding, sorted within parts and unsorted, on public prompts beside the checkout."""

import json
from pathlib import Path

from batchgen.models.resolve import resolve_model
from batchgen.planning.batches import padding_share

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ROWS = 48
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

    def share(part: int) -> float:
        ordered = [
            n
            for at in range(0, len(found), part)
            for n in sorted(found[at : at + part], reverse=True)
        ]
        return padding_share(ordered[at : at + ROWS] for at in range(0, len(ordered), ROWS))

    print(f"{len(found):,} prompts of {min(found)}-{max(found)} tokens, batches of {ROWS} rows")
    print(f"unsorted            {share(1):.1%} padding")
    for part in (512, 2048):
        print(f"sorted, parts of {part:<5}{share(part):.1%} padding")


if __name__ == "__main__":
    main()
