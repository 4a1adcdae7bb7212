"""GSM8K's test set as the demo model's card measures it: accuracy with its interval, coverage, new tokens a second.

Five solved questions as turns, then the question: `Question: ...`, line break, `Answer:`; an answer begins with a space.
At most 256 new tokens, and none from `Question` on. The strict score takes the first number after `####`, as lighteval
does. The data is in ../shared/data; the five come from the head of the training set.

Takes a quarter of an hour on two quiet cores. Other settings, such as one worker: `bench_gsm8k.py run.workers=1`.
"""

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SHOTS = 5
NEW_TOKENS = 256
STOPS = ["Question:", "Question"]
QUESTION = "Question: {question}\nAnswer:"
STRICT = {
    "type": "number",
    "name": "strict",
    "pick": "first",
    "answer_format": "hash",
    "primary": True,
}


def gsm8k_job(data: Path, output: Path, **sections: Any) -> dict[str, Any]:
    """The job's sections; keywords replace some.

    Args:
        data: the folder with gsm8k_test.jsonl and gsm8k_train_head.jsonl.
        output: the folder for the answers.
    """
    shots = [
        message
        for shot in random.Random(1).sample(_rows(data / "gsm8k_train_head.jsonl"), SHOTS)
        for message in (
            {"role": "user", "content": _verbatim(QUESTION.format(question=shot["question"]))},
            {"role": "assistant", "content": _verbatim(f" {shot['answer']}")},
        )
    ]
    question = {"role": "user", "content": QUESTION.format(question="{{ question }}")}
    flexible = {"type": "number", "name": "flexible"}
    return {
        "version": 1,
        "name": "gsm8k",
        "input": {"path": str(data / "gsm8k_test.jsonl")},
        "prompt": {"messages": [*shots, question]},
        "model": "demo:smollm2-135m",
        "decoding": {"max_new_tokens": NEW_TOKENS, "stop_strings": STOPS},
        "output": {"path": str(output)},
        "evaluate": {"reference": "answer", "metrics": [STRICT, flexible, "repetition"]},
        **sections,
    }


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _verbatim(text: str) -> str:
    """Text that the template engine does not change."""
    return "{% raw %}" + text + "{% endraw %}"


def main() -> None:
    from batchgen.cli.render.metric_table import metric_lines
    from batchgen.jobfile.load import load_job
    from batchgen.run.run import run

    if not DATA.is_dir():
        print("needs ../shared/data")
        return
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.yaml"
        job.write_text(json.dumps(gsm8k_job(DATA, Path(folder) / "out")))
        result = run(load_job(job, overrides=sys.argv[1:]))
    counts = result.counts
    print("\n".join(metric_lines(result.metrics)))
    print(
        f"{counts.rows:,} rows, {counts.input_tokens:,} tokens in, {counts.output_tokens:,} out, "
        f"{result.seconds:,.0f} s: {counts.output_tokens / result.seconds:,.0f} new tokens/s"
    )
    print(f"{counts.failed:,} failed, {counts.cut_by_length:,} reached max_new_tokens")


if __name__ == "__main__":
    main()
