"""Log-probabilities and label probabilities of a real model against a plain forward of transformers."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from batchgen.run.run import run

MakeJob = Callable[..., Path]
LABELS = ["positive", "negative", "neutral", "neutral or mixed"]
ROWS = [{"q": text} for text in ("I love it!", "Never again.", "It is a phone.", "好极了")]


def deciding(labels: Sequence[list[int]]) -> Iterator[list[int]]:
    """The shortest beginning of each label with which no other one begins; the label itself if there is none."""
    for label in labels:
        others = [one for one in labels if one != label]
        begun = (label[: n + 1] for n in range(len(label)))
        alone = (one for one in begun if all(other[: len(one)] != one for other in others))
        yield next(alone, label)


@pytest.mark.soak
@pytest.mark.parametrize("top", [3, False])
def test_a_plain_forward_gives_the_same_values(
    make_job: MakeJob, demo_folder: Path, top: int
) -> None:
    """With log-probabilities of tokens, labels are scored by another pass; without, answers are chosen by them."""
    path = make_job(
        ROWS,
        prompt={"user": "Is this review positive, negative or neutral? {{ q }}"},
        model={"engine": "transformers", "path": str(demo_folder), "dtype": "float32"},
        decoding={"response_format": {"choice": LABELS}, "logprobs": top},
        output={"choice_probabilities": True},
    )
    frame = run(path).frame()
    tokenizer: Any = AutoTokenizer.from_pretrained(demo_folder)
    model: Any = AutoModelForCausalLM.from_pretrained(demo_folder, dtype=torch.float32)

    def logprobs(prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = model(torch.tensor([[*prompt, *answer]])).logits[0]
        return logits[len(prompt) - 1 : -1].double().log_softmax(-1)

    for row in frame.iter_rows(named=True):
        assert row["response"] in LABELS
        prompt = tokenizer.apply_chat_template(
            row["messages"], add_generation_prompt=True, return_dict=False
        )
        chances = []
        of_labels = [tokenizer(label, add_special_tokens=False)["input_ids"] for label in LABELS]
        for ids in deciding(of_labels):
            table = logprobs(prompt, ids)
            chances.append(math.exp(sum(float(table[n, i]) for n, i in enumerate(ids))))
        chances[2] -= chances[3]  # neutral, and not neutral or mixed
        cells = row["choice_probabilities"]
        assert [one["label"] for one in cells] == LABELS
        for cell, chance in zip(cells, chances, strict=True):
            assert cell["logprob"] == pytest.approx(math.log(chance), abs=1e-3)
            assert cell["probability"] == pytest.approx(chance / sum(chances), rel=1e-3)
        if not top:
            assert row["response"] == max(cells, key=lambda one: one["probability"])["label"]
            continue
        ids = [token["token_id"] for token in row["logprobs"]]
        assert "".join(token["token"] for token in row["logprobs"]) == row["response"]
        table = logprobs(prompt, ids)
        for position, token in enumerate(row["logprobs"]):
            assert token["logprob"] == pytest.approx(
                float(table[position, ids[position]]), abs=1e-3
            )
            best = table[position].topk(3)
            assert [one["token_id"] for one in token["top_logprobs"]] == best.indices.tolist()
            values = [one["logprob"] for one in token["top_logprobs"]]
            assert values == pytest.approx(best.values.tolist(), abs=1e-3)
