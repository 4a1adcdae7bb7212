"""All layers in one kernel: logits and answers of the forward that computes them one by one, in any batch and with any threads."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward import compiled_layers
from batchgen.engines.torch.continuous.forward.llama import LlamaForward
from batchgen.engines.torch.continuous.forward.products import linear
from batchgen.engines.torch.continuous.forward.products.tile_linear import tiles_work
from batchgen.engines.torch.continuous.kv_store import KVStore, KVStoreSizes
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.records import Completion, ResolvedDecoding
from tests.engines.torch.continuous.tiny_continuous_tier import CAPACITIES, own_forward, slots
from tests.engines.torch.tiny_models import by_row, prompts, requests, tiny_model

pytestmark = pytest.mark.skipif(not tiles_work(), reason="no numba or no AMX")

SIZES: dict[str, Any] = {"vocab_size": 128, "hidden_size": 64, "intermediate_size": 96}
"""Multiples of a tile."""
DECODINGS = (
    ResolvedDecoding(max_new_tokens=9),
    ResolvedDecoding(max_new_tokens=7, temperature=0.9),
)
SYSTEM = prompts(7, seed=1)[6][:20]
MIXED = [SYSTEM + p if n % 2 else p for n, p in enumerate(prompts())]


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(linear, "tiles_are_faster", lambda: True)
    usual = torch.get_num_threads()
    yield
    torch.set_num_threads(usual)


def compiled_forward(family: str) -> LlamaForward:
    made = own_forward(tiny_model(family, torch.bfloat16, **SIZES))
    assert isinstance(made, LlamaForward)
    assert made._compiled is not None
    return made


class Recorder:
    """Runs two forwards on copies of the same keys and values, and compares their logits."""

    def __init__(self, one: LlamaForward, other: LlamaForward) -> None:
        self._one, self._other = one, other
        self._store: KVStore | None = None
        self.distances: list[float] = []

    def __call__(self, batch: StepBatch, store: KVStore) -> Tensor:
        if self._store is None:
            self._store = KVStore(store.sizes, store.zeros)
        found, wanted = self._one(batch, store), self._other(batch, self._store)
        if found.numel():
            self.distances.append(float((found - wanted).abs().max() / wanted.std()))
        return found


def logit_bits(family: str) -> str:
    """A hash of all logits of some rows; in a process of its own, since it sets what products are used."""
    pytest.MonkeyPatch().setattr(linear, "tiles_are_faster", lambda: True)
    forward, found = compiled_forward(family), hashlib.sha256()

    def hashed(batch: StepBatch, store: KVStore) -> Tensor:
        logits = forward(batch, store)
        found.update(logits.numpy().tobytes())
        return logits

    by_row(slots(hashed, CAPACITIES["all places, prompts in chunks"]).generate(requests(MIXED)))
    return found.hexdigest()


@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen2"])
def test_logits_are_those_of_the_layers_one_by_one(family: str) -> None:
    """Also after norms of heads (qwen3), and with biases (qwen2)."""
    one, other = compiled_forward(family), compiled_forward(family)
    other._compiled = None
    both = Recorder(one, other)
    by_row(
        slots(both, CAPACITIES["all places, prompts in chunks"]).generate(
            requests(MIXED, *DECODINGS)
        )
    )
    assert len(both.distances) > 9
    # Sums in another order, rounded to bfloat16.
    assert max(both.distances) < 0.1


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_row_gets_the_same_answer_in_any_batch_and_with_any_threads(family: str) -> None:
    to_run, submitted = compiled_forward(family), requests(MIXED, *DECODINGS)
    alone: dict[int, Completion] | None = None
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for name, capacity in CAPACITIES.items():
            # The kernels need pages of four tokens.
            if name == "too few pages":
                capacity = replace(capacity, sizes=KVStoreSizes(14, 4, 16))
            made = by_row(slots(to_run, capacity).generate(submitted[::-1]))
            alone = made if alone is None else alone
            assert made == alone, (count, name)
    assert alone is not None
    assert len({tuple(one.token_ids) for one in alone.values()}) > len(submitted) // 2


def test_threads_end_if_one_of_them_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    to_run, kernel = compiled_forward("llama"), compiled_layers._kernel
    wanted = by_row(slots(to_run).generate(requests(MIXED)))

    def interrupted(*arguments: object) -> None:
        if arguments[-1] == 0:
            raise KeyboardInterrupt
        kernel(2, 8, normed=False)(*arguments)

    torch.set_num_threads(3)
    with monkeypatch.context() as patched:
        patched.setattr(compiled_layers, "_kernel", lambda *_args, **_kwargs: interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(slots(to_run).generate(requests(MIXED)))
    assert by_row(slots(to_run).generate(requests(MIXED))) == wanted


def test_other_layers_are_computed_one_by_one() -> None:
    """A window, and widths that are no multiples of a tile."""
    for model in (
        tiny_model("mistral", torch.bfloat16, **SIZES),
        tiny_model("llama", torch.bfloat16),
        tiny_model("llama", torch.float32, **SIZES),
    ):
        made = own_forward(model)
        assert isinstance(made, LlamaForward)
        assert made._compiled is None
