"""FLOPs of a model's tokens: compared with torch's own counter, and by hand for the demo model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from batchgen.engines.torch.utilization.flops import TokenCounter, model_flops
from batchgen.planning.required_flops import AttentionFlops, ModelFlops
from tests.engines.torch.tiny_models import tiny_model

LENGTH = 5
"""Shorter than the windows of the tiny models, so that every token attends to every earlier one."""


def counted(model: Any, tokens: int) -> float:
    """Floating-point operations of one forward that draws once, counted by torch."""
    ids = torch.arange(3, 3 + tokens)[None]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, logits_to_keep=1)
    return float(counter.get_total_flops())


def with_eager_attention(family: str) -> Any:
    """A tiny model whose attention consists of plain products, which the counter includes."""
    model: Any = tiny_model(family, torch.float32)
    model.set_attn_implementation("eager")
    return model


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gpt_neox", "mistral", "gemma3_text"])
def test_flops_equal_those_counted_by_torch(family: str) -> None:
    model = with_eager_attention(family)
    costs = model_flops(model)
    assert costs is not None
    pair = sum(layers.pair for layers in costs.attention)
    # Plain products compute the masked half of the square as well.
    expected = LENGTH * costs.token + costs.draw + LENGTH**2 * pair
    # The difference is the angles of rotary embeddings, which some families compute as products.
    assert counted(model, LENGTH) == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_only_selected_experts_are_counted(family: str) -> None:
    sizes: dict[str, Any] = {
        "vocab_size": 97,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 48,
        "num_experts_per_tok": 2,
        "num_experts" if family == "qwen3_moe" else "num_local_experts": 4,
    }
    if family == "qwen3_moe":
        sizes["moe_intermediate_size"] = 48
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))
    costs = model_flops(model)
    assert costs is not None
    attention = 32 * (4 + 2 + 2) * 8 + 4 * 8 * 32
    experts = 2 * 3 * 32 * 48
    assert costs.token == 2 * 2 * (attention + experts + 4 * 32)
    assert costs.draw == 2 * 97 * 32


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        pytest.param(
            "mistral", (AttentionFlops(4.0 * 4 * 8 * 3, window=6),), id="all with a window"
        ),
        pytest.param(
            "gemma3_text",
            (AttentionFlops(4.0 * 4 * 8 * 2, window=6), AttentionFlops(4.0 * 4 * 8)),
            id="some with a window",
        ),
        pytest.param("lfm2", (AttentionFlops(4.0 * 4 * 8),), id="one layer with keys of three"),
        pytest.param("mamba", (), id="without keys"),
    ],
)
def test_the_attention_window_of_layers_is_that_of_the_config(
    family: str, expected: tuple[AttentionFlops, ...]
) -> None:
    costs = model_flops(tiny_model(family))
    assert costs is not None
    assert costs.attention == expected


def test_a_model_with_an_encoder_has_no_flops() -> None:
    assert model_flops(tiny_model("t5")) is None


def test_flops_of_the_demo_model_by_hand(demo_folder: Path) -> None:
    config = json.loads((demo_folder / "config.json").read_text())
    hidden, inner, layers = (
        config[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers")
    )
    heads, keys, width = 9, 3, 64
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(demo_folder))
    attention = hidden * (heads + 2 * keys) * width + heads * width * hidden
    assert model_flops(model) == ModelFlops(
        token=2.0 * layers * (attention + 3 * hidden * inner),
        draw=2.0 * 49_152 * hidden,
        attention=(AttentionFlops(4.0 * layers * heads * width),),
    )


def test_every_input_token_is_counted() -> None:
    model: Any = tiny_model("llama")
    count = TokenCounter(model)
    model(input_ids=torch.ones(2, 7, dtype=torch.int64))
    model(input_ids=torch.ones(3, 1, dtype=torch.int64))
    assert count.tokens == 17
