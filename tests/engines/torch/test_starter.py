"""The starter model, on real prompts, answers as `generate` does on each of them alone."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.model import load_model
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.batches import by_length
from batchgen.records import Continuation, Likelihood, ResolvedDecoding
from tests.engines.torch.tiny import by_row, forced_table, generated, requests

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
def test_real_continuations_are_as_likely_as_in_a_forward_of_each_row_alone(
    starter_folder: Path,
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(starter_folder)
    cases = {
        "The capital of France is": [" Paris", " London", " a city in the north of the country."],
        "Water boils at 100 degrees": [" Celsius", " Fahrenheit", " if it is heated."],
        "中国的首都是": ["北京", "上海", "一个很大的城市。"],
    }
    asked = [
        Continuation(number, tokenizer.encode(context), tokenizer.encode(ending))
        for number, (context, ending) in enumerate(
            (context, ending) for context, endings in cases.items() for ending in endings
        )
    ]
    model = load_model(starter_folder, ModelSpec(path="model"))
    engine = TorchEngine(
        model, batching=Batching(), decode=tokenizer.decode, should_stop=lambda: False
    )
    found: dict[int, Likelihood] = {}
    for ordered in (asked, asked[::-1]):
        found = {one.index: one for one in engine.likelihoods(ordered)}
        for one in asked:
            table = forced_table(model.model, one.context, one.token_ids)
            expected = [float(row[token]) for row, token in zip(table, one.token_ids, strict=True)]
            # A token's own rounding in float32 is larger than that of the mean; so it is in transformers' own forward.
            assert found[one.index].logprobs == pytest.approx(expected, abs=1e-4, rel=0)
            assert fmean(found[one.index].logprobs) == pytest.approx(fmean(expected), abs=1e-5)
    assert [found[n].total > found[n + 1].total for n in (0, 3, 6)] == [True] * 3


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
