"""A bfloat16 model computes in float32 for a while, and is then as it was."""

import copy
from typing import Any

import pytest
import torch

from batchgen.engines.torch.select.float32_arithmetic import float32_arithmetic
from tests.engines.torch.tiny_models import tiny_model

IDS = torch.tensor([[5, 9, 60, 41]])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
def test_logits_are_those_of_a_float32_copy(family: str) -> None:
    model: Any = tiny_model(family, torch.bfloat16)
    exact: Any = copy.deepcopy(model).float()
    before = [parameter.data for parameter in model.parameters()]
    with torch.inference_mode():
        with float32_arithmetic(model) as changed:
            found = model(IDS).logits
        assert changed
        assert torch.equal(found, exact(IDS).logits)
        assert model(IDS).logits.dtype == torch.bfloat16
    assert all(torch.equal(a, b.data) for a, b in zip(before, model.parameters(), strict=True))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_weights_are_restored_after_an_error() -> None:
    model: Any = tiny_model("llama", torch.bfloat16)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    model.model.layers[1].self_attn.o_proj.register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError), float32_arithmetic(model):
        model(IDS)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_other_models_are_not_changed() -> None:
    with float32_arithmetic(tiny_model("llama", torch.float32)) as changed:
        assert not changed
