"""From free memory to rows and pages under continuous batching."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.errors import ResourceError, UsageError
from batchgen.job.spec import Batching
from batchgen.planning.kv_cache_plan import (
    PAGE_TOKENS,
    PREFILL_TOKENS,
    ROWS,
    choose_workers,
    plan_kv_cache,
)
from batchgen.planning.padded_batch_budget import Device, ModelMemory, activation_bytes

GB = 10**9

# SmolLM2-135M in float32, its weights loaded: 30 layers, 3 key heads of 64, hidden 576, feed-forward 1,536.
SMALL = ModelMemory(
    weight_bytes=0,
    kv_bytes_per_token=2 * 30 * 3 * 64 * 4,
    activation_bytes_per_token=activation_bytes(
        hidden=576, intermediate=1536, attention=(9 + 2 * 3) * 64, item=4
    ),
    vocab_size=49_152,
)


@pytest.mark.parametrize(
    ("device", "rows", "step"), [("cpu", 256, 1024), ("cuda", 512, 8192)], ids=["cpu", "cuda"]
)
def test_enough_memory_gives_the_useful_number_of_rows(
    device: Device, rows: int, step: int
) -> None:
    plan = plan_kv_cache(SMALL, available_bytes=80 * GB, device=device, batching=Batching())
    assert (plan.rows, plan.step_tokens) == (rows, step) == (ROWS[device], PREFILL_TOKENS[device])
    # 80 GB less logits and activations, at 46,080 bytes a token; one page in five is for prefixes.
    tokens = (80 * GB - rows * 16 * 49_152 - step * 36_096) // 46_080
    assert tokens - 64 < plan.pages * 64 + plan.arena <= tokens
    assert plan.arena == (plan.pages * 64 + plan.arena) // 64 // 5 * 64


def test_numbers_of_the_job_take_precedence() -> None:
    batching = Batching(max_rows=7, max_tokens=64 * 50)
    plan = plan_kv_cache(SMALL, available_bytes=80 * GB, device="cpu", batching=batching)
    assert (plan.rows, plan.pages, plan.arena) == (7, 40, 10 * 64)


def test_little_memory_reduces_the_rows() -> None:
    plan = plan_kv_cache(SMALL, available_bytes=300_000_000, device="cpu", batching=Batching())
    assert plan.rows < 256
    assert plan.pages + plan.arena // 64 >= plan.rows, "a page for each row"


def test_too_little_memory_is_an_error() -> None:
    with pytest.raises(ResourceError, match="not enough memory on cpu"):
        plan_kv_cache(SMALL, available_bytes=10_000_000, device="cpu", batching=Batching())


@given(
    kv=st.integers(0, 10**6),
    activations=st.integers(0, 10**5),
    vocab=st.integers(2, 300_000),
    room=st.integers(0, 100 * GB),
    rows=st.none() | st.integers(1, 1000),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_the_plan_fits_in_memory(
    kv: int, activations: int, vocab: int, room: int, rows: int | None, device: Device
) -> None:
    memory = ModelMemory(0, kv, activations, vocab)
    try:
        plan = plan_kv_cache(
            memory, available_bytes=room, device=device, batching=Batching(max_rows=rows or "auto")
        )
    except ResourceError:
        # Too little even for a row of four pages.
        assert 16 * vocab + activations + 4 * PAGE_TOKENS * max(1, kv) > room
        return
    tokens = plan.pages * plan.page_size + plan.arena
    logits = plan.rows * 16 * vocab
    assert logits + plan.step_tokens * activations + tokens * kv <= room
    assert plan.rows >= 1
    assert plan.step_tokens >= 1
    assert plan.pages >= 4 - plan.arena // PAGE_TOKENS
    assert rows is None or plan.rows <= rows


@pytest.mark.parametrize(
    ("requested", "threads", "count"),
    [
        ("auto", 1, 1),
        ("auto", 2, 2),
        ("auto", 64, 8),
        (1, 64, 1),
        (3, 2, 3),
        (12, 64, 12),
    ],
)
def test_workers_on_a_cpu(requested: int | Literal["auto"], threads: int, count: int) -> None:
    chosen = choose_workers(requested, threads=threads)
    assert (chosen.count, chosen.gpus) == (count, ())
    assert chosen.reason


@pytest.mark.parametrize(
    ("requested", "available", "taken"),
    [
        ("auto", ["cuda:0"], ("cuda:0",)),
        ("auto", ["cuda:0", "cuda:1"], ("cuda:0", "cuda:1")),
        (1, ["cuda:0", "cuda:1"], ("cuda:0",)),
        (2, ["cuda:0", "cuda:1", "cuda:2"], ("cuda:0", "cuda:1")),
    ],
)
def test_each_worker_uses_one_gpu(
    requested: int | Literal["auto"], available: list[str], taken: tuple[str, ...]
) -> None:
    chosen = choose_workers(requested, threads=64, gpus=available)
    assert (chosen.count, chosen.gpus) == (len(taken), taken)
    assert chosen.reason == ("auto: one per GPU" if requested == "auto" else "run.workers")


def test_more_workers_than_gpus_are_an_error() -> None:
    with pytest.raises(UsageError, match=r"run\.workers: 4.*can use 2: cuda:0, cuda:1"):
        choose_workers(4, threads=64, gpus=["cuda:0", "cuda:1"])
