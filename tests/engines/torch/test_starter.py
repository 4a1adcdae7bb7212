"""The starter model, on real prompts, answers as `generate` does on each of them alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.model import load_model
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.batches import by_length
from batchgen.records import ResolvedDecoding
from tests.engines.torch.tiny import by_row, generated, requests

NEW = 8
MARGIN = 1e-3
"""Where the two best logits are this close in float32, either token is right."""


def questions(data: Path) -> list[str]:
    """Four English questions and four Chinese ones."""
    english = (data / "mt_bench.jsonl").read_text("utf-8").splitlines()[:4]
    chinese = (data / "belle_eval.jsonl").read_text("utf-8").splitlines()[:4]
    return [
        *[json.loads(line)["turns"][0][:160] for line in english],
        *[json.loads(line)["question"][:80] for line in chinese],
    ]


@pytest.mark.slow
def test_real_prompts_are_answered_as_each_alone(starter_folder: Path, shared_data: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(starter_folder)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for text in questions(shared_data)
    ]
    end = tokenizer.eos_token_id
    decoding = ResolvedDecoding(max_new_tokens=NEW, end_token_ids=frozenset({end}))
    model = load_model(starter_folder, ModelSpec(path="model"))
    engine = TorchEngine(
        model, batching=Batching(), decode=tokenizer.decode, should_stop=lambda: False
    )
    assert engine.facts()["tier"] == "slots, own forward"
    found = by_row(engine.generate(by_length(requests(prompts, decoding))))
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
    assert same > 5 * NEW
