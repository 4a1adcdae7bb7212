"""Packed weights are not held twice; they are read again where the model itself must run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from batchgen.engines.torch.continuous.forward.llama import LlamaForward
from batchgen.engines.torch.continuous.forward.products.linear import packing_works
from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.model import LoadedModel, load_model
from batchgen.engines.torch.tier import NoText
from batchgen.errors import ModelError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.records import ResolvedDecoding
from tests.engines.torch.tiny_models import by_row, generated, prompts, requests, tiny_model

pytestmark = pytest.mark.skipif(not packing_works(), reason="no packed products on this machine")
GREEDY = ResolvedDecoding(max_new_tokens=5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., LoadedModel]:
    def make(dtype: str = "float32", **config: Any) -> LoadedModel:
        model = tiny_model("llama", torch.bfloat16)
        for name, value in config.items():
            setattr(model.config, name, value)
        model.save_pretrained(tmp_path / "model")
        spec = ModelSpec.model_validate({"path": "m", "dtype": dtype, "device": "cpu"})
        return load_model(tmp_path / "model", spec)

    return make


def engine(loaded: LoadedModel) -> TorchEngine:
    return TorchEngine(
        loaded, batching=Batching(), workers=1, decode=NoText(), should_stop=lambda: False
    )


def freed(loaded: LoadedModel) -> set[str]:
    return {
        name.rsplit(".", 2)[-2]
        for name, weight in loaded.model.named_parameters()
        if weight.is_meta
    }


PRODUCTS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"}


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", PRODUCTS),
        ("bfloat16", PRODUCTS),
        ("float16", {"q_proj", "k_proj", "v_proj"}),
    ],
)
def test_weights_with_a_copy_are_freed(
    load: Callable[..., LoadedModel], dtype: str, expected: set[str]
) -> None:
    loaded = load(dtype)
    assert LlamaForward.of(loaded.model, 2**30, loaded.release) is not None
    assert freed(loaded) == expected


def test_beams_read_them_again(load: Callable[..., LoadedModel]) -> None:
    loaded, texts = load(), prompts(2)
    made = engine(loaded)
    greedy = by_row(made.generate(requests(texts, GREEDY)))
    assert freed(loaded) == PRODUCTS

    beams = by_row(made.generate(requests(texts, replace(GREEDY, num_beams=2))))

    assert freed(loaded) == set()
    for row, prompt in enumerate(texts):
        alone = generated(loaded.model, prompt, max_new_tokens=5, num_beams=2)[0, len(prompt) :]
        assert beams[row].token_ids == alone.tolist()
    assert by_row(made.generate(requests(texts, GREEDY))) == greedy


def test_files_that_have_changed_are_an_error(
    load: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    loaded = load()
    engine(loaded)
    (tmp_path / "model" / "config.json").touch()
    with pytest.raises(ModelError, match="its files have changed since the model was loaded"):
        loaded.model(torch.tensor([[1, 2]]))


def test_a_model_made_in_memory_keeps_its_weights(load: Callable[..., LoadedModel]) -> None:
    loaded = replace(load(), release=None)
    engine(loaded)
    assert freed(loaded) == set()
