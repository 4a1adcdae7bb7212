"""The row counts at which a product gives a row the same bits are found, and make a forward batch-invariant.

No processor with such products is needed: these products of float32 change their last bits with the number of rows.
"""

import pytest
import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward.llama import LlamaForward
from batchgen.engines.torch.continuous.forward.products.linear import WidenedLinear
from batchgen.engines.torch.continuous.kv_store import KVStore
from batchgen.engines.torch.continuous.workers import LogitsSpec
from batchgen.engines.torch.select import continuous_probe
from batchgen.engines.torch.select.batch_invariance import probe_batch_invariance
from batchgen.engines.torch.select.continuous_probe import (
    OWN_FORWARD,
    ProbedForward,
    probe_continuous,
)
from batchgen.engines.torch.select.row_count_probe import COUNTS, probe_row_counts
from batchgen.engines.torch.select.tier_cache import TierRecord
from tests.engines.torch.tiny_models import CPU, VOCABULARY, loaded, tiny_model

HALF = torch.bfloat16
WEIGHT = torch.randn(24, 16, generator=torch.Generator().manual_seed(0)).to(HALF)


def group(rows: int) -> int:
    return 0 if rows <= 32 else 1 if rows <= 256 else 2


class GroupingLinear(WidenedLinear):
    """Products whose bits depend on the group of the number of rows."""

    def __call__(self, x: Tensor) -> Tensor:
        return (super().__call__(x) * (1 + group(len(x)) / 64)).to(HALF)

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        return to + self(x)

    def logits(self, x: Tensor) -> Tensor:
        return self(x).float()


def test_the_group_with_few_padded_rows_is_found() -> None:
    found = probe_row_counts([(GroupingLinear(WEIGHT, None), 16)])
    assert found is not None
    assert found.counts == tuple(count for count in COUNTS if 48 <= count <= 256)


def test_counts_at_which_a_row_depends_on_its_place_are_not_used() -> None:
    plain = WidenedLinear(WEIGHT, None)

    def by_place(x: Tensor) -> Tensor:
        made = plain(x)
        if len(x) not in (64, 256):
            made[-1] += 1
        return made

    found = probe_row_counts([(by_place, 16)])
    assert found is not None
    assert found.counts == (64, 256)


def test_without_two_counts_that_agree_there_is_no_group() -> None:
    plain = WidenedLinear(WEIGHT, None)
    assert probe_row_counts([(lambda x: plain(x) * len(x), 16)]) is None


def test_products_with_the_same_bits_at_any_count_need_no_group() -> None:
    plain = WidenedLinear(WEIGHT, None)

    def unusual(x: Tensor) -> Tensor:
        return plain(x) * (2 if len(x) == 33 else 1)

    assert probe_row_counts([(plain, 16)]) is None
    found = probe_row_counts([(plain, 16), (unusual, 16)])
    assert found is not None
    assert found.counts == COUNTS


def test_threads_that_change_bits_leave_no_group() -> None:
    plain, usual = WidenedLinear(WEIGHT, None), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert probe_row_counts([(lambda x: plain(x) * torch.get_num_threads(), 16)]) is None
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(usual)


def test_a_forward_at_the_found_counts_is_batch_invariant() -> None:
    model = tiny_model("llama", HALF)
    probed = probe_continuous(loaded(model), packable=10**9)
    assert isinstance(probed, ProbedForward)

    def unchanged(forward: LlamaForward, store: KVStore) -> set[str]:
        logits = LogitsSpec(VOCABULARY, torch.float32)
        return set(probe_batch_invariance(forward, store, logits, CPU).unchanged)

    varying = LlamaForward(model, GroupingLinear)
    assert "in a large step" not in unchanged(varying, probed.store)
    counts = probe_row_counts(varying.products())
    assert counts is not None
    varying.use_row_counts(counts)
    assert unchanged(varying, probed.store) >= {
        "with another row",
        "with a much longer row",
        "in a large step",
    }


def test_the_counts_are_probed_once_and_then_those_of_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = loaded(tiny_model("llama", HALF))
    assert isinstance(usual := probe_continuous(model, packable=10**9), ProbedForward)
    monkeypatch.setattr(continuous_probe, "has_bfloat16_products", lambda: True)
    assert isinstance(first := probe_continuous(model, packable=10**9), ProbedForward)
    # Here every count gives the same bits, and none is padded.
    assert first.row_counts == ()
    record = TierRecord(OWN_FORWARD, "", True, "", "", row_counts=(64, 256))
    monkeypatch.setattr(continuous_probe, "probe_row_counts", None)
    again = probe_continuous(model, packable=10**9, cached=record)
    assert isinstance(again, ProbedForward)
    assert again.row_counts == (64, 256)
    assert usual.reason == first.reason
