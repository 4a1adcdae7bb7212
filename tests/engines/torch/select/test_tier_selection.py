"""A cached tier answers like the one that was probed; if it no longer matches, the search is repeated."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.model import LoadedModel, load_model
from batchgen.engines.torch.select.parity_probe import LENGTHS
from batchgen.engines.torch.select.tier_cache import tier_cache
from batchgen.engines.torch.select.tier_selection import select_tier
from batchgen.job.spec import Batching, ModelSpec
from tests.engines.torch.tiny_models import by_row, prompts, requests, spell, tiny_model

FREE = 10**9
SPEC = ModelSpec(path="model")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tiers"


def saved(family: str, folder: Path) -> Path:
    tiny_model(family, torch.float32).save_pretrained(folder)
    return folder


def load(folder: Path, spec: ModelSpec = SPEC) -> LoadedModel:
    return load_model(folder, spec)


def cached(model: LoadedModel, *, free: int = FREE) -> bool:
    return select_tier(model, "continuous", free).from_cache


def engine_of(model: LoadedModel) -> TorchEngine:
    return TorchEngine(model, batching=Batching(), decode=spell, should_stop=lambda: False)


def forwards(model: LoadedModel) -> list[int]:
    """Tokens of each forward of a model from now on."""
    seen: list[int] = []

    def note(_module: object, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0].numel())

    model.model.get_input_embeddings().register_forward_pre_hook(note)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "tier"),
    [
        ("llama", "continuous, own forward"),
        ("gpt2", "continuous"),
        ("lfm2", "static"),
        ("t5", "generate, padded"),
    ],
)
def test_the_second_start_checks_one_prompt_and_answers_the_same(
    family: str, tier: str, tmp_path: Path
) -> None:
    folder = saved(family, tmp_path / family)
    first = engine_of(load(folder))
    wanted = by_row(first.generate(requests(prompts())))
    again = load(folder)
    computed = forwards(again)
    assert select_tier(again, "continuous", FREE).from_cache
    assert sum(computed) <= 2 * (LENGTHS[0] + 3)
    second = engine_of(again)
    assert by_row(second.generate(requests(prompts()))) == wanted
    kept = [name for name in first.facts() if name.startswith(("tier", "batch_", "kv_", "state_"))]
    assert len(kept) == 8
    assert [second.facts()[name] for name in kept] == [first.facts()[name] for name in kept]
    assert second.facts()["tier"] == tier


@pytest.mark.slow
def test_a_change_of_model_or_settings_repeats_the_search(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path / "model")
    assert not cached(load(folder))
    assert cached(load(folder))
    # No memory for packed weights: other products.
    assert not cached(load(folder), free=1000)
    assert cached(load(folder), free=1000)
    assert not cached(load(folder, ModelSpec(path="model", attn_implementation="eager")))
    assert not cached(load(folder, ModelSpec(path="model", dtype="bfloat16")))
    assert not select_tier(load(folder), "static", FREE).from_cache
    (folder / "model.safetensors").touch()
    assert not cached(load(folder))


def test_files_that_change_during_loading_are_not_cached(tmp_path: Path, cache: Path) -> None:
    folder = saved("llama", tmp_path / "model")
    model = load(folder)
    (folder / "config.json").touch()
    assert not cached(model)
    assert list(cache.glob("*.json")) == []


def test_a_model_with_its_own_code_is_not_cached(tmp_path: Path, cache: Path) -> None:
    folder = saved("llama", tmp_path / "model")
    select_tier(load(folder, ModelSpec(path="model", trust_remote_code=True)), "continuous", FREE)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("family", "wrong"),
    [("gpt2", "continuous, own forward"), ("llama", "mesh"), ("t5", "continuous")],
)
def test_a_tier_that_does_not_exist_for_the_model_repeats_the_search(
    family: str, wrong: str, tmp_path: Path, cache: Path
) -> None:
    model = load(saved(family, tmp_path / "model"))
    selected = select_tier(model, "continuous", FREE)
    (file,) = cache.glob("*.json")
    key = json.loads(file.read_bytes())["key"]
    tier_cache(cache).put(key, replace(selected.record, tier=wrong))
    again = select_tier(model, "continuous", FREE)
    assert (again.from_cache, again.record.tier) == (False, selected.record.tier)


def test_a_tier_that_was_probed_with_other_kernels_is_probed_again(
    tmp_path: Path, cache: Path
) -> None:
    model = load(saved("llama", tmp_path / "model"))
    selected = select_tier(model, "continuous", FREE)
    (file,) = cache.glob("*.json")
    key = json.loads(file.read_bytes())["key"]
    without = {"attention": "torch: numba is not installed", "norm": "torch"}
    record = replace(selected.record, kernels=without, batch_invariant=False)
    tier_cache(cache).put(key, record)
    again = select_tier(model, "continuous", FREE)
    assert not again.from_cache
    assert again.record.kernels == selected.record.kernels != without
    assert again.record.batch_invariant == selected.record.batch_invariant


def test_a_cached_tier_with_other_logits_repeats_the_search(tmp_path: Path) -> None:
    model = load(saved("llama", tmp_path / "model"))
    assert select_tier(model, "continuous", FREE).record.tier == "continuous, own forward"

    def changed(_module: object, _inputs: object, output: Tensor) -> Tensor:
        return output + output.flip(-1)

    inner: Any = model.model
    inner.model.norm.register_forward_hook(changed)  # own forward does not call this module
    again = select_tier(model, "continuous", FREE)
    assert (again.from_cache, again.record.tier) == (False, "continuous")
    assert "not continuous, own forward: its logits differ" in again.record.reason
