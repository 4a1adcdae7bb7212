"""The test of batch invariance detects forwards that each break it in one way."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from batchgen.engines.torch.continuous.kv_store import KVStore, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.engines.torch.continuous.workers import LogitsSpec
from batchgen.engines.torch.select.batch_invariance import BatchInvariance, probe_batch_invariance
from batchgen.engines.torch.select.continuous_probe import ProbedForward, probe_continuous
from batchgen.engines.torch.select.row_count_probe import threads
from batchgen.planning.sequences import StepKind
from tests.engines.torch.tiny_models import CPU, VOCABULARY, engine, loaded, tiny_model

TABLE = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0))
LAST_BIT = torch.finfo(torch.float32).eps


def merged(batch: StepBatch) -> bool:
    return any(piece.past > 0 for piece in batch.pieces)


DEPENDS: dict[str, Callable[[StepBatch], bool]] = {
    "with another row": lambda batch: batch.kind is StepKind.DECODE and len(batch.drawn) > 1,
    "with a much longer row": lambda batch: any(g.pages.shape[1] > 1 for g in batch.groups),
    "after a row": merged,
    "with a shared prefix": lambda batch: bool(batch.reaches),
    "in a large step": lambda batch: len(batch.token_ids) >= 192,
    "with one thread": lambda _batch: torch.get_num_threads() == 1,
    "computed again": lambda batch: len(batch.token_ids) == 23,
}


def tried(depends: Callable[[StepBatch], bool]) -> BatchInvariance:
    def forward(batch: StepBatch, _store: KVStore) -> Tensor:
        logits = TABLE[batch.token_ids[batch.drawn]]
        return logits * (1 + LAST_BIT * depends(batch))

    return probe_batch_invariance(
        forward,
        KVStore(KVStoreSizes(1, 1, 0), private_zeros),
        LogitsSpec(VOCABULARY, torch.float32),
        CPU,
    )


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with threads(2):
        yield


def test_a_forward_without_dependence_is_batch_invariant() -> None:
    found = tried(lambda _batch: False)
    assert found.holds
    assert found.holds_for_splits


@pytest.mark.parametrize("way", DEPENDS)
def test_the_composition_that_changes_a_bit_is_named(way: str) -> None:
    found = tried(DEPENDS[way])
    assert not found.holds
    assert found.changed[0] == way
    assert f"logits differ {way}" in found.reason
    assert found.holds_for_splits is (
        way in {"after a row", "with a shared prefix", "computed again"}
    )
    assert {*found.unchanged, *found.changed} == set(DEPENDS)


def test_the_same_error_in_every_step_is_batch_invariant() -> None:
    assert tried(lambda _batch: True).holds


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_engine_reports_the_invariance_of_its_model(family: str) -> None:
    model = tiny_model(family, torch.float32)
    found = probe_continuous(loaded(model), packable=10**9)
    assert isinstance(found, ProbedForward)
    same = probe_batch_invariance(found.forward, found.store, found.logits, CPU)
    opened = engine(model)
    facts = opened.facts()
    assert facts["batch_invariant"] is same.holds
    assert facts["batch_invariant_reason"] == same.reason
    opened.close()


def test_tiers_with_padded_batches_report_no_invariance() -> None:
    opened = engine(tiny_model("lfm2", torch.float32))
    assert opened.facts()["tier"] == "static"
    assert opened.facts()["batch_invariant"] is False
    opened.close()
