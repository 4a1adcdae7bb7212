"""Conversations on a tiny model: each answer has the tokens of a plain loop over `generate`, in any batches and engines."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)

from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.engines.replicas.replicated_engine import open_replicas
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.job.spec import Batching, ModelSpec
from batchgen.jobfile.load import load_job
from batchgen.planning.kv_cache_plan import Workers
from batchgen.records import AnswerDecoder
from batchgen.run.run import run
from tests.models.conftest import TEMPLATE, TOKENIZER_CONFIG, tokenizer_json

NEW = 8
GENERATED = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
LOADERS: dict[bool, Any] = {False: AutoModelForCausalLM, True: AutoModelForSeq2SeqLM}
Talks = Mapping[str, list[str]]


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "t5": {
        "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "pad_token_id": 256,
        "decoder_start_token_id": 256, "tie_word_embeddings": False,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory, "llama")


def tiny_model(tmp_path_factory: pytest.TempPathFactory, family: str) -> Path:
    folder = tmp_path_factory.mktemp(family)
    config = AutoConfig.for_model(
        family, vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, eos_token_id=257, bos_token_id=256,
        initializer_range=0.4, **FAMILIES[family],
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = LOADERS[config.is_encoder_decoder].from_config(config)
        if family == "t5":
            for weight in model.parameters():
                torch.nn.init.normal_(weight, std=0.4)
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
    config = AutoConfig.from_pretrained(folder)
    model: Any = LOADERS[config.is_encoder_decoder].from_pretrained(folder)
    found = {}
    for key, turns in talks.items():
        messages: list[dict[str, str]] = []
        for number, text in enumerate(turns, 1):
            messages.append({"role": "user", "content": text})
            prompt = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
            new = model.generate(**prompt, max_new_tokens=NEW, do_sample=False)
            ids = new[0, 1 if config.is_encoder_decoder else prompt["input_ids"].shape[1] :]
            answer = tokenizer.decode(ids, skip_special_tokens=True)
            found[f"{key}/{number}"] = answer
            messages.append({"role": "assistant", "content": answer})
    return found


def run_of(
    folder: Path, path: Path, talks: Talks, *settings: str, opener: EngineOpener = open_engine
) -> pl.DataFrame:
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
    frame = run(load_job(path / "job.json", overrides=settings), opener=opener).frame()
    assert frame["error"].null_count() == frame.height
    return frame


def by_run(
    folder: Path, path: Path, talks: Talks, *settings: str, opener: EngineOpener = open_engine
) -> dict[str, str]:
    frame = run_of(folder, path, talks, *settings, opener=opener)
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


@pytest.mark.parametrize(("family", "tier"), [("lfm2", "static"), ("t5", "generate, padded")])
@pytest.mark.parametrize("settings", [("batching.max_rows=2", "batching.part_rows=4")])
def test_other_tiers_have_the_tokens_of_the_loop(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, family: str, tier: str, settings: tuple[str, ...]
) -> None:  # fmt: skip
    folder = tiny_model(tmp_path_factory, family)
    answers = by_run(folder, tmp_path, TALKS, *settings)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert manifest["engine"]["tier"] == tier
    assert answers == by_generate(folder, TALKS)
    assert len(set(answers.values())) > 3


def two_replicas(
    model: ModelSpec,
    /,
    *,
    folder: Path,
    batching: Batching,
    workers: int,
    decode: AnswerDecoder,
    should_stop: Callable[[], bool],
) -> Engine:
    """Two processes with the model; a turn may be answered by another one than the turn before it."""
    opening = partial(open_engine, folder=folder, workers=workers, decode=decode)
    devices = Workers(2, "for a test", ("cpu", "cpu"))
    return open_replicas(devices, model, opening, batching=batching, should_stop=should_stop)


@pytest.mark.slow
@pytest.mark.parametrize("part_rows", [4, 2048])
def test_replicas_have_the_tokens_of_the_loop(
    model_folder: Path, tmp_path: Path, part_rows: int
) -> None:
    talks = {f"{n}-{key}": turns for n in range(3) for key, turns in TALKS.items()}
    setting = f"batching.part_rows={part_rows}"
    found = by_run(model_folder, tmp_path, talks, setting, opener=two_replicas)
    expected = by_generate(model_folder, TALKS)
    assert found == {f"{n}-{key}": answer for n in range(3) for key, answer in expected.items()}


@pytest.mark.slow
def test_mt_bench_has_the_tokens_of_a_loop_over_generate(
    model_folder: Path, tmp_path: Path, shared_data: Path
) -> None:
    lines = (shared_data / "mt_bench.jsonl").read_text("utf-8").splitlines()
    talks = {str(row["question_id"]): row["turns"] for row in map(json.loads, lines)}
    talks = {key: [text[:1500] for text in turns] for key, turns in talks.items()}
    assert len(talks) == 80
    assert by_run(model_folder, tmp_path, talks) == by_generate(model_folder, talks)


@pytest.mark.soak
def test_the_demo_model_has_the_tokens_of_generate_in_both_turns(
    demo_folder: Path, tmp_path: Path, shared_data: Path
) -> None:
    """Up to the first decision between two tokens that float32 does not tell apart."""
    lines = (shared_data / "mt_bench.jsonl").read_text("utf-8").splitlines()[:6]
    talks = {str(row["question_id"]): row["turns"] for row in map(json.loads, lines)}
    frame = run_of(demo_folder, tmp_path, talks, "decoding.max_new_tokens=24")
    facts = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))["engine"]
    assert facts["continued"] == 6
    tokenizer: Any = AutoTokenizer.from_pretrained(demo_folder)
    model: Any = AutoModelForCausalLM.from_pretrained(demo_folder, dtype=torch.float32)
    compared = 0
    for messages, response in frame.select("messages", "response").iter_rows():
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        made = model.generate(
            **prompt, max_new_tokens=24, do_sample=False, output_logits=True, return_dict_in_generate=True
        )  # fmt: skip
        best = torch.stack(made.logits)[:, 0].topk(2).values
        close = (best[:, 0] - best[:, 1] < 1e-3).nonzero().flatten().tolist()
        new = made.sequences[0, prompt["input_ids"].shape[1] :]
        text = tokenizer.decode(new[: close[0]] if close else new, skip_special_tokens=True)
        assert response.startswith(text) if close else response == text
        compared += len(text)
    assert compared > 500
