"""Conversations on a tiny model: each answer has the tokens of a plain loop over `generate`, in any batches and engines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from tests.models.conftest import TEMPLATE, TOKENIZER_CONFIG, tokenizer_json

NEW = 8
GENERATED = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
Talks = Mapping[str, list[str]]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, eos_token_id=257, bos_token_id=256,
        initializer_range=0.4,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[94:257] = (
            0  # tokens that are not ASCII: a part of a character has no text
        )
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    content = {**TOKENIZER_CONFIG, "chat_template": TEMPLATE + GENERATED}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    return folder


def by_generate(folder: Path, talks: Talks) -> dict[str, str]:
    """The answers of a plain loop."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = LlamaForCausalLM.from_pretrained(folder)
    found = {}
    for key, turns in talks.items():
        messages: list[dict[str, str]] = []
        for number, text in enumerate(turns, 1):
            messages.append({"role": "user", "content": text})
            prompt = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
            new = model.generate(**prompt, max_new_tokens=NEW, do_sample=False)
            ids = new[0, prompt["input_ids"].shape[1] :]
            answer = tokenizer.decode(ids, skip_special_tokens=True)
            found[f"{key}/{number}"] = answer
            messages.append({"role": "assistant", "content": answer})
    return found


def by_run(folder: Path, path: Path, talks: Talks, *settings: str) -> dict[str, str]:
    rows = "".join(json.dumps({"id": key, "turns": turns}) + "\n" for key, turns in talks.items())
    (path / "rows.jsonl").write_text(rows)
    job = {
        "version": 1,
        "name": "talk",
        "input": {"path": "rows.jsonl", "columns": {"turns": "turns"}},
        "model": {"path": str(folder), "dtype": "float32", "device": "cpu"},
        "decoding": {"max_new_tokens": NEW},
        "run": {"workers": 1},
        "output": {"path": "out"},
    }
    (path / "job.json").write_text(json.dumps(job))
    frame = run(load_job(path / "job.json", overrides=settings)).frame()
    assert frame["error"].null_count() == frame.height
    return dict(frame.select("id", "response").iter_rows())


TALKS = {
    "a": ["Hello", "And then?", "Thanks."],
    "b": ["Only one."],
    "c": ["Name two.", "Why these two, of all that there are?"],
    "d": ["x", "y", "z", "again"],
}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param((), id="all together"),
        pytest.param(("batching.max_rows=2", "batching.part_rows=4"), id="two rows, small parts"),
        pytest.param(("run.workers=2",), id="two workers"),
        pytest.param(("decoding.num_beams=1", "batching.sort=none"), id="input order"),
    ],
)
def test_each_turn_has_the_tokens_of_a_loop_over_generate(
    model_folder: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    assert by_run(model_folder, tmp_path, TALKS, *settings) == by_generate(model_folder, TALKS)


@pytest.mark.slow
def test_mt_bench_has_the_tokens_of_a_loop_over_generate(
    model_folder: Path, tmp_path: Path, shared_data: Path
) -> None:
    lines = (shared_data / "mt_bench.jsonl").read_text("utf-8").splitlines()
    talks = {str(row["question_id"]): row["turns"] for row in map(json.loads, lines)}
    talks = {key: [text[:1500] for text in turns] for key, turns in talks.items()}
    assert len(talks) == 80
    assert by_run(model_folder, tmp_path, talks) == by_generate(model_folder, talks)
