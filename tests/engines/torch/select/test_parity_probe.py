"""The probe selects the fastest tier whose answers equal those of each row alone."""

from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from batchgen.engines.torch.select.parity_probe import probe_generate, probe_tiers
from batchgen.errors import ModelError
from tests.engines.torch.tiny_models import loaded, tiny_model


class Maskless(LlamaForCausalLM):
    """Answers single rows correctly, but ignores the padding mask."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs | {"attention_mask": None})


class Mingling(LlamaForCausalLM):
    """Answers depend on how many rows there are."""

    def forward(self, *args: Any, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        output = super().forward(*args, input_ids=input_ids, **kwargs)
        output.logits = output.logits + len(input_ids) * output.logits.flip(-1)
        return output


class Broken(LlamaForCausalLM):
    def forward(self, *_args: Any, **_kwargs: Any) -> Any:
        raise ZeroDivisionError("a fault of the model's own")


def of_class(kind: type[LlamaForCausalLM]) -> PreTrainedModel:
    plain = tiny_model("llama", torch.float32)
    config: Any = plain.config
    model: PreTrainedModel = kind(config).eval()
    model.load_state_dict(plain.state_dict())
    model.generation_config = plain.generation_config
    return model


@pytest.mark.parametrize(
    ("family", "dtype", "tier"),
    [
        ("llama", torch.float32, "static"),
        ("llama", torch.bfloat16, "static"),
        ("falcon_h1", torch.float32, "static"),
        ("bloom", torch.float32, "static"),
        # Its float32 softmax turns the float64 mask into -inf, and fully masked padding into NaN.
        ("bloom", torch.float64, "generate, same length"),
        ("recurrent_gemma", torch.float32, "generate, same length"),
        ("t5", torch.float32, "generate, padded"),
    ],
)
def test_tiers_of_families(family: str, dtype: torch.dtype, tier: str) -> None:
    verdict = probe_tiers(loaded(tiny_model(family, dtype)))
    assert verdict.name == tier
    assert "of one row alone" in verdict.reason


@pytest.mark.parametrize(
    ("kind", "tier"),
    [
        (LlamaForCausalLM, "static"),
        (Maskless, "generate, same length"),
        (Mingling, "generate, single"),
    ],
)
def test_a_tier_with_wrong_answers_is_not_selected(kind: type[LlamaForCausalLM], tier: str) -> None:
    verdict = probe_tiers(loaded(of_class(kind)))
    assert verdict.name == tier
    assert ("not static" in verdict.reason) == (tier != "static")


def test_generate_is_probed_alone() -> None:
    assert probe_generate(loaded(tiny_model("llama"))).name == "generate, padded"


def test_a_model_that_cannot_generate_is_an_error() -> None:
    with pytest.raises(ModelError, match="cannot generate: ZeroDivisionError"):
        probe_tiers(loaded(of_class(Broken)))
