"""The files of an export train a model: `datasets` loads them, and TRL makes a step of DPO and of KTO with them."""

from pathlib import Path
from typing import Any

import pytest

from batchgen.feedback.training.choose_examples import ExportOptions
from batchgen.feedback.training.export_examples import export_examples
from batchgen.feedback.votes_file import append_votes
from tests.feedback.conftest import MakeRun, Voter

pytestmark = [pytest.mark.extra, pytest.mark.slow]
datasets = pytest.importorskip("datasets", reason="needs the package datasets")


@pytest.fixture
def files(make_run: MakeRun, tmp_path: Path) -> dict[str, Path]:
    """One file for each format."""
    two = (make_run(), make_run("short", decoding={"stop_strings": [" "]}))
    vote = Voter(two[0])
    votes = [vote.pair(f"r{n}", "ab"[n % 2], two[1]) for n in range(8)]
    append_votes(two[0].folder, [*votes, vote("r8", "edit", edited_text="A better answer.")])
    formats = (
        "trl-dpo",
        "trl-kto",
        "trl-reward",
        "trl-sft",
        "llamafactory-dpo",
        "llamafactory-kto",
    )
    made = {}
    for name in formats:
        made[name] = tmp_path / f"{name}.jsonl"
        export_examples(two, made[name], ExportOptions(name))  # type: ignore[arg-type]
    return made


@pytest.mark.filterwarnings("ignore")
def test_datasets_loads_every_file(files: dict[str, Path], tmp_path: Path) -> None:
    columns = {
        "trl-dpo": {"prompt", "chosen", "rejected"},
        "trl-kto": {"prompt", "completion", "label"},
        "trl-reward": {"chosen", "rejected"},
        "trl-sft": {"prompt", "completion"},
        "llamafactory-dpo": {"conversations", "chosen", "rejected", "system"},
        "llamafactory-kto": {"conversations", "kto_tag", "system"},
    }
    for name, path in files.items():
        loaded = datasets.load_dataset(
            "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
        )
        assert columns[name] <= set(loaded.column_names)
        assert loaded.num_rows == path.read_text().count("\n")


def tiny_model(folder: Path) -> tuple[Any, Any]:
    """A random Llama with a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<pad>", "<end>", *alphabet]
    tokenizer = Tokenizer(models.BPE(vocab={t: n for n, t in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>"
    )
    wrapped.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<end>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(names),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)  # TRL loads the reference model by its path
    return LlamaForCausalLM.from_pretrained(folder), wrapped


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_trl_makes_a_step(files: dict[str, Path], tmp_path: Path, method: str) -> None:
    import torch

    trl = pytest.importorskip("trl", reason="needs the package trl")
    if method == "dpo":
        config_class, trainer_class = trl.DPOConfig, trl.DPOTrainer
    else:
        experimental = pytest.importorskip("trl.experimental.kto")
        config_class, trainer_class = experimental.KTOConfig, experimental.KTOTrainer
    model, tokenizer = tiny_model(tmp_path / "model")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = datasets.load_dataset(
        "json",
        data_files=str(files[f"trl-{method}"]),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    settings = config_class(
        output_dir=str(tmp_path / "trained"),
        per_device_train_batch_size=4,
        max_steps=1,
        learning_rate=0.01,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    trainer = trainer_class(
        model=model, args=settings, train_dataset=rows, processing_class=tokenizer
    )
    result = trainer.train()
    assert result.global_step == 1
    assert torch.isfinite(torch.tensor(result.training_loss))
    after = trainer.model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
