"""The demo model, on real prompts, answers as `generate` does on each of them alone."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from transformers import AutoTokenizer

from batchgen.records import Continuation, Likelihood
from tests.engines.torch.demo_model_engine import demo_engine, tokens_as_generated
from tests.engines.torch.tiny_models import forced_table

NEW = 8


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
    demo_folder: Path,
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(demo_folder)
    cases = {
        "The capital of France is": [" Paris", " London", " a city in the north of the country."],
        "Water boils at 100 degrees": [" Celsius", " Fahrenheit", " if it is heated."],
        "中国的首都是": ["北京", "上海", "一个很大的城市。"],
    }
    submitted = [
        Continuation(number, tokenizer.encode(context), tokenizer.encode(ending))
        for number, (context, ending) in enumerate(
            (context, ending) for context, endings in cases.items() for ending in endings
        )
    ]
    engine, model = demo_engine(demo_folder, tokenizer)
    found: dict[int, Likelihood] = {}
    for ordered in (submitted, submitted[::-1]):
        found = {one.index: one for one in engine.likelihoods(ordered)}
        differences: list[float] = []
        for one in submitted:
            table = forced_table(model, one.context, one.token_ids)
            expected = [float(row[token]) for row, token in zip(table, one.token_ids, strict=True)]
            # The rounding of one token in float32 is larger than that of the mean, in transformers' own forward too:
            # up to 2e-5 from the result in float64 on a processor with AVX-512.
            assert found[one.index].logprobs == pytest.approx(expected, abs=1e-4, rel=0)
            differences += (a - b for a, b in zip(found[one.index].logprobs, expected, strict=True))
        assert fmean(differences) == pytest.approx(0, abs=1e-5)
    assert [found[n].total > found[n + 1].total for n in (0, 3, 6)] == [True] * 3


@pytest.mark.slow
def test_real_prompts_are_answered_as_each_alone(demo_folder: Path, shared_data: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(demo_folder)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for text in questions(shared_data)
    ]
    engine, model = demo_engine(demo_folder, tokenizer)
    assert engine.facts()["tier"] == "continuous, own forward"
    end = tokenizer.eos_token_id
    assert tokens_as_generated(engine, model, prompts, end=end, new=NEW) > 5 * NEW
