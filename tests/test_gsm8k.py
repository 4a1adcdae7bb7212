"""The five-shot job on GSM8K: prompts as for the published figure, correct scores, the tokens of plain `generate`."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from transformers import AutoTokenizer

from batchgen.cli import cli
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from tests.benchmarks.bench_gsm8k import STRICT, gsm8k_job
from tests.engines.torch.demo_model_engine import demo_engine, tokens_as_generated

NEW = 12


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def prompt_rows(shared_data: Path, tmp_path: Path) -> pl.DataFrame:
    """The prompts of the first rows, through an engine without a model."""
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(gsm8k_job(shared_data, tmp_path / "out", model={"engine": "echo"})))
    return run(load_job(job, overrides=["input.limit=3"])).frame()


def test_the_prompt_begins_with_five_solved_questions_of_the_training_set(
    prompt_rows: pl.DataFrame, shared_data: Path
) -> None:
    trained = {
        row["question"]: row["answer"] for row in rows(shared_data / "gsm8k_train_head.jsonl")
    }
    for messages, question in zip(
        prompt_rows["messages"].to_list(), prompt_rows["question"], strict=True
    ):
        assert [m["role"] for m in messages] == ["user", "assistant"] * 5 + ["user"]
        texts = [m["content"] for m in messages]
        for shot, answer in zip(texts[:-1:2], texts[1::2], strict=True):
            known = shot.removeprefix("Question: ").removesuffix("\nAnswer:")
            assert answer == f" {trained[known]}"
        assert texts[-1] == f"Question: {question}\nAnswer:"
    assert len({json.dumps(m[:-1]) for m in prompt_rows["messages"].to_list()}) == 1


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


@pytest.mark.soak
def test_tokens_after_a_shared_beginning_are_those_of_generate(
    prompt_rows: pl.DataFrame, demo_folder: Path
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(demo_folder)
    prompts = [
        tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        for messages in prompt_rows["messages"].to_list()
    ]
    engine, model = demo_engine(demo_folder, tokenizer)
    end = tokenizer.eos_token_id
    assert tokens_as_generated(engine, model, prompts, end=end, new=NEW) > 2 * NEW
    assert engine.facts()["prefixes"] == 1
