"""The five-shot job on GSM8K: its prompts are those of the published figure, its scores are right, its tokens plain `generate`'s."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoTokenizer

from batchgen.cli import cli
from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.model import load_model
from batchgen.job.load import load_job
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.batches import by_length
from batchgen.records import ResolvedDecoding
from batchgen.runner.run import run
from tests.benchmarks.bench_gsm8k import STRICT, gsm8k_job
from tests.engines.torch.tiny import by_row, generated, requests

NEW = 12
MARGIN = 1e-3
"""Where the two best logits are this close in float32, either token is right."""


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def asked(shared_data: Path, tmp_path: Path) -> pl.DataFrame:
    """What the job asks about the first rows, by way of an engine that needs no model."""
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(gsm8k_job(shared_data, tmp_path / "out", model={"engine": "echo"})))
    return run(load_job(job, sets=["input.limit=3"])).frame()


def test_five_solved_questions_of_the_training_set_come_first(
    asked: pl.DataFrame, shared_data: Path
) -> None:
    trained = {
        row["question"]: row["answer"] for row in rows(shared_data / "gsm8k_train_head.jsonl")
    }
    for messages, question in zip(asked["messages"].to_list(), asked["question"], strict=True):
        assert [m["role"] for m in messages] == ["user", "assistant"] * 5 + ["user"]
        texts = [m["content"] for m in messages]
        for shot, answer in zip(texts[:-1:2], texts[1::2], strict=True):
            known = shot.removeprefix("Question: ").removesuffix("\nAnswer:")
            assert answer == f" {trained[known]}"
        assert texts[-1] == f"Question: {question}\nAnswer:"
    assert len({json.dumps(m[:-1]) for m in asked["messages"].to_list()}) == 1


def test_the_references_are_right_by_the_strict_rule(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "gsm8k_test.jsonl"
    command = [
        "score",
        str(file),
        "-m",
        json.dumps(STRICT),
        "--response",
        "answer",
        "--reference",
        "answer",
    ]
    done = CliRunner().invoke(cli, [*command, "-o", str(tmp_path / "scored"), "--json"])
    (metric,) = json.loads(done.stdout.splitlines()[-1])["metrics"]
    assert (metric["value"], metric["n"], metric["coverage"]) == (1.0, 1319, 1.0)


@pytest.mark.slow
def test_tokens_after_a_shared_beginning_are_those_of_generate(
    asked: pl.DataFrame, starter_folder: Path
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(starter_folder)
    prompts = [
        tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        for messages in asked["messages"].to_list()
    ]
    end = tokenizer.eos_token_id
    decoding = ResolvedDecoding(max_new_tokens=NEW, end_token_ids=frozenset({end}))
    model = load_model(starter_folder, ModelSpec(path="model"))
    engine = TorchEngine(
        model, batching=Batching(), decode=tokenizer.decode, should_stop=lambda: False
    )
    found = by_row(engine.generate(by_length(requests(prompts, decoding))))
    assert engine.facts()["prefixes"] == 1
    same = 0
    for row, prompt in enumerate(prompts):
        made = generated(
            model.model,
            prompt,
            max_new_tokens=NEW,
            eos_token_id=end,
            output_logits=True,
            return_dict_in_generate=True,
        )
        for step, token in enumerate(made.sequences[0, len(prompt) :].tolist()):
            first, second = torch.topk(made.logits[step][0], 2).values
            if first - second < MARGIN:
                break
            assert found[row].token_ids[step] == token, f"row {row}, step {step}"
            same += 1
    assert same > 2 * NEW
