"""Tokens are drawn from exactly the distribution of transformers' warpers, independent of other rows."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from batchgen.decoding.rng import uniforms
from batchgen.decoding.sampling import Sampler, log_probabilities, most_likely
from batchgen.records import ResolvedDecoding

torch.set_num_threads(1)

GREEDY = ResolvedDecoding()
ALMOST_ONE = 1 - 2**-53


def sampled(
    temperature: float = 1.0, *, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> ResolvedDecoding:
    return ResolvedDecoding(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)


def random_logits(*shape: int, seed: int = 0, spread: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * spread


def draw(logits: Tensor, settings: Sequence[ResolvedDecoding], at: Sequence[float]) -> list[int]:
    uniform = torch.tensor(at, dtype=torch.float64)
    return Sampler.of(settings).draw(logits, uniform).tokens.tolist()


def reference_law(logits: Tensor, decoding: ResolvedDecoding) -> Tensor:
    """Probabilities after transformers' warpers, in the order of `_get_logits_processor`."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(decoding.temperature))])
    if decoding.top_k:
        warpers.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1:
        warpers.append(TopPLogitsWarper(decoding.top_p))
    if decoding.min_p:
        warpers.append(MinPLogitsWarper(decoding.min_p))
    scores = warpers(torch.LongTensor([[0]]), logits[None])
    return scores[0].double().softmax(-1)


def draw_order(logits: Tensor, decoding: ResolvedDecoding) -> list[int]:
    """The order of the tokens on [0, 1): by rank if there is a top_k or top_p, else by id."""
    ids = range(len(logits))
    if decoding.top_k or decoding.top_p < 1:
        return sorted(ids, key=lambda i: (-logits[i].item(), i))
    return list(ids)


SETTINGS = [
    sampled(),
    sampled(0.3),
    sampled(4.0),
    sampled(0.8, top_k=1),
    sampled(0.8, top_k=2),
    sampled(1.2, top_k=50),
    sampled(1.0, top_k=63),
    sampled(1.0, top_k=64),
    sampled(1.0, top_k=65),
    sampled(1.0, top_k=512),
    sampled(1.0, top_k=600),
    sampled(1.0, top_k=10**9),
    sampled(0.7, top_p=0.01),
    sampled(0.7, top_p=0.5),
    sampled(0.7, top_p=0.9),
    sampled(3.0, top_p=0.95),
    sampled(5.0, top_p=0.999),
    sampled(1.0, min_p=0.02),
    sampled(1.0, min_p=1.0),
    sampled(0.9, top_k=40, top_p=0.8),
    sampled(1.5, top_k=300, top_p=0.99),
    sampled(1.5, top_p=0.97, min_p=0.01),
    sampled(1.1, top_k=80, top_p=0.9, min_p=0.05),
    sampled(1.1, top_k=80, min_p=0.001),
    sampled(1.0, top_k=10**9, top_p=0.9),
]


def name_of(decoding: ResolvedDecoding) -> str:
    return f"T{decoding.temperature:g}-k{decoding.top_k}-p{decoding.top_p:g}-min{decoding.min_p:g}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("vocab", [7, 700, 5003])
@pytest.mark.parametrize("decoding", SETTINGS, ids=name_of)
def test_each_kept_token_has_the_interval_of_its_probability(
    decoding: ResolvedDecoding, vocab: int, dtype: torch.dtype
) -> None:
    logits = random_logits(vocab, seed=vocab).to(dtype)
    law = reference_law(logits, decoding)
    order = [i for i in draw_order(logits, decoding) if law[i] > 0]
    ends = law[order].cumsum(-1)
    # A probability below 1e-6 has no middle that float32 logits could separate from its borders.
    some = [k for k, i in enumerate(order) if law[i] > 1e-6][:: max(1, len(order) // 30)]
    middles = [(ends[k] - law[order[k]] / 2).item() for k in some]
    at = [0.0, *middles, ALMOST_ONE]
    drawn = draw(logits.expand(len(at), -1), [decoding] * len(at), at)
    assert drawn[1:-1] == [order[k] for k in some]
    # In rank order, equal first and last kept tokens imply that the same set is kept.
    assert drawn[0] == order[0]
    assert drawn[-1] == order[-1] or law[order[-1]] < 1e-7


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_settings_keep_the_same_tokens(data: st.DataObject) -> None:
    vocab = data.draw(st.integers(2, 150))
    logits = random_logits(vocab, seed=data.draw(st.integers(0, 10**6)))
    decoding = sampled(
        data.draw(st.floats(0.1, 5.0)),
        top_k=data.draw(st.integers(0, 160)),
        top_p=data.draw(st.floats(0.01, 1.0)),
        min_p=data.draw(st.floats(0.0, 0.5)),
    )
    law = reference_law(logits, decoding)
    order = [i for i in draw_order(logits, decoding) if law[i] > 0]
    ends = law[order].cumsum(-1)
    middles = (ends - law[order] / 2).tolist()
    drawn = draw(logits.expand(len(order), -1), [decoding] * len(order), middles)
    # Middles of tokens below 1e-12 are lost in the rounding of the sum.
    assert [d for d, i in zip(drawn, order, strict=True) if law[i] > 1e-12] == [
        i for i in order if law[i] > 1e-12
    ]


CHI_SQUARE_999 = {1: 10.8, 4: 18.5, 9: 27.9, 19: 43.8, 29: 58.3}
"""0.999 quantiles, by degrees of freedom."""


@pytest.mark.parametrize(
    "decoding",
    [
        sampled(),
        sampled(0.7),
        sampled(1.0, min_p=0.05),
        sampled(1.0, top_k=5),
        sampled(1.3, top_p=0.9),
    ],
    ids=name_of,
)
def test_frequencies_over_rows_match_the_distribution(decoding: ResolvedDecoding) -> None:
    logits, rows = random_logits(30, spread=1.0), 20_000
    noise = uniforms(np.arange(rows, dtype=np.uint64), np.zeros(rows, np.int64))
    drawn = Sampler.of([decoding] * rows).draw(logits.expand(rows, -1), torch.from_numpy(noise))
    observed = torch.bincount(drawn.tokens, minlength=30).double()
    expected = reference_law(logits, decoding) * rows
    kept = expected > 0
    assert observed[~kept].sum() == 0
    freedom = min(f for f in CHI_SQUARE_999 if f >= int(kept.sum()) - 1)
    statistic = ((observed - expected)[kept] ** 2 / expected[kept]).sum()
    assert statistic < CHI_SQUARE_999[freedom]


# Ties: the lower id is the more likely token.

TIED = [2.0, 5.0, 5.0, 5.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("decoding", "kept"),
    [
        pytest.param(GREEDY, [1], id="greedy takes the first of the highest"),
        pytest.param(sampled(1.0, top_k=1), [1, 2, 3], id="top_k keeps what ties with the k-th"),
        pytest.param(sampled(1.0, top_k=4), [1, 2, 3, 0, 5], id="k-th in a lower tie"),
        pytest.param(sampled(1.0, top_p=0.3), [1], id="top_p cuts through a tie"),
        pytest.param(sampled(1.0, top_p=0.6), [1, 2], id="top_p cuts through a tie later"),
        pytest.param(sampled(1.0, min_p=0.9), [1, 2, 3], id="min_p keeps a tie whole"),
    ],
)
def test_ties_are_broken_by_token_id(decoding: ResolvedDecoding, kept: list[int]) -> None:
    at = [(i + 0.5) / 600 for i in range(600)]
    drawn = draw(torch.tensor(TIED).expand(600, -1), [decoding] * 600, at)
    assert list(dict.fromkeys(drawn)) == kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("vocab", [40, 1000])
def test_a_row_of_equal_logits_is_drawn_in_the_order_of_ids(dtype: torch.dtype, vocab: int) -> None:
    logits = torch.zeros(20, vocab, dtype=dtype)
    logits[:, ::2] = -0.0
    at = [(i + 0.5) / 20 for i in range(20)]
    drawn = draw(logits, [sampled(1.0, top_p=0.9)] * 20, at)
    # 0.9 of the tokens are kept: the lowest ids.
    assert drawn == [math.floor(u * vocab * 0.9) for u in at]


@pytest.mark.parametrize("vocab", [100, 700, 5003])
def test_float32_and_float64_rank_the_same(vocab: int) -> None:
    logits = (random_logits(8, vocab) * 4).round() / 4  # many ties, both zeros
    assert (logits == 0).any()
    many = [sampled(2.0, top_p=0.9999)] * 8
    at = [0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 0.9999]
    assert draw(logits.float(), many, at) == draw(logits, many, at)


# One row, one answer.

NEIGHBOURS = [GREEDY, *SETTINGS]


@pytest.mark.parametrize("vocab", [703, 5003])
def test_a_draw_does_not_depend_on_the_other_rows(vocab: int) -> None:
    rows = len(NEIGHBOURS)
    logits = random_logits(rows, vocab, seed=3).float()
    logits[4] = math.nan
    at = [(i * 0.381966) % 1 for i in range(rows)]
    together = draw(logits, NEIGHBOURS, at)
    alone = [draw(logits[i : i + 1], [NEIGHBOURS[i]], [at[i]])[0] for i in range(rows)]
    backwards = draw(logits.flip(0), NEIGHBOURS[::-1], at[::-1])
    assert together == alone == backwards[::-1]


@pytest.mark.parametrize("decoding", [sampled(), sampled(0.8, top_p=0.9), sampled(1.0, top_k=40)])
def test_the_last_bit_of_an_interval_bound_does_not_depend_on_other_rows(
    decoding: ResolvedDecoding,
) -> None:
    logits = random_logits(9, 1003, seed=5).float()
    low, high = 0.05, 0.95

    def alone(at: float) -> int:
        return draw(logits[4:5], [decoding], [at])[0]

    below, above = alone(low), alone(high)
    assert below != above
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if alone(middle) == below else (low, middle)
    # `low` and `high` are adjacent floats on either side of a bound between two tokens.
    assert alone(low) != alone(high)
    for size in (2, 5, 9):
        for at in (low, high):
            others = [sampled(0.1 * i + 0.1) for i in range(size - 1)]
            rows = [*range(size - 1), 4]
            drawn = draw(logits[rows], [*others, decoding], [0.5] * (size - 1) + [at])
            assert drawn[-1] == alone(at)


def test_select_keeps_each_row_with_its_settings() -> None:
    logits = random_logits(len(NEIGHBOURS), 100, seed=8)
    sampler = Sampler.of(NEIGHBOURS)
    noise = torch.linspace(0, 0.99, len(NEIGHBOURS), dtype=torch.float64)
    rows = [7, 0, 19, 3]
    kept = sampler.select(rows).draw(logits[rows], noise[rows])
    assert kept.tokens.tolist() == sampler.draw(logits, noise).tokens[rows].tolist()


# Rows that no token can be chosen for.

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("row", "finite"),
    [
        ([0.0, 1.0, 2.0], True),
        ([0.0, -INF, 2.0], True),
        ([-INF, -INF, 2.0], True),
        ([0.0, NAN, 2.0], False),
        ([NAN, -INF, -INF], False),
        ([0.0, INF, 2.0], False),
        ([-INF, -INF, -INF], False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "decoding", [GREEDY, sampled(), sampled(1.0, top_p=0.9), sampled(1.0, top_k=2)], ids=name_of
)
def test_rows_without_finite_logits_are_marked_and_affect_no_other(
    decoding: ResolvedDecoding, row: list[float], finite: bool, dtype: torch.dtype
) -> None:
    logits = torch.tensor([[0.0, 1.0, 9.0], row, [9.0, 1.0, 0.0]], dtype=dtype)
    drawn = Sampler.of([decoding] * 3).draw(logits, torch.full((3,), 0.5, dtype=torch.float64))
    assert drawn.finite.tolist() == [True, finite, True]
    assert drawn.tokens[[0, 2]].tolist() == [2, 0]


@pytest.mark.parametrize("decoding", [sampled(), sampled(1.0, top_p=0.99), sampled(1.0, min_p=0.1)])
def test_an_impossible_token_is_never_drawn(decoding: ResolvedDecoding) -> None:
    logits = torch.tensor([-INF, 1.0, -INF, 0.0, -INF])
    at = [0.0, *(i / 50 for i in range(50)), ALMOST_ONE]
    assert set(draw(logits.expand(len(at), -1), [decoding] * len(at), at)) == {1, 3}


# Greedy rows, rows with a low temperature, and unchanged logits.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_greedy_is_argmax_and_ignores_the_uniform_number(dtype: torch.dtype) -> None:
    logits = random_logits(5, 300).to(dtype)
    drawn = Sampler.of([GREEDY] * 5).draw(logits, torch.empty(0))
    assert drawn.tokens.tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-6])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_temperature_near_zero_equals_greedy(temperature: float, top_p: float) -> None:
    logits = random_logits(4, 300).float() * 1000
    drawn = draw(logits, [sampled(temperature, top_p=top_p)] * 4, [0.0, 0.3, 0.6, ALMOST_ONE])
    assert drawn == logits.argmax(-1).tolist()


@pytest.mark.parametrize("decoding", NEIGHBOURS, ids=name_of)
def test_logits_are_not_modified(decoding: ResolvedDecoding) -> None:
    logits = random_logits(3, 700).float()
    before = logits.clone()
    draw(logits, [decoding] * 3, [0.1, 0.5, 0.9])
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-5)]
)
def test_log_probabilities_are_those_of_the_raw_distribution(
    dtype: torch.dtype, tolerance: float
) -> None:
    logits = random_logits(6, 2000).to(dtype)
    exact = logits.double().softmax(-1).log()
    assert torch.allclose(log_probabilities(logits).double(), exact, atol=tolerance)


def test_the_most_likely_tokens_are_in_order_and_ties_by_id() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, 2.0], [3.0, 3.0, -torch.inf, 4.0]])
    assert most_likely(logits, 3).tolist() == [[1, 3, 2], [3, 0, 1]]
    assert most_likely(logits, 0).tolist() == [[], []]
