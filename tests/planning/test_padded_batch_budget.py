"""From memory to tokens: the formulas, and free memory as reported by the kernel."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.errors import ResourceError
from batchgen.job.spec import Batching
from batchgen.planning.batches import BatchLimits
from batchgen.planning.host_memory import free_host_memory
from batchgen.planning.padded_batch_budget import (
    USEFUL_ROWS,
    Budget,
    Device,
    ModelMemory,
    activation_bytes,
    batch_limits,
    compute_budget,
)

GB = 10**9

# SmolLM2-135M in float32: 30 layers, 3 key heads of 64, hidden 576, feed-forward 1,536.
SMALL = ModelMemory(
    weight_bytes=538_000_000,
    kv_bytes_per_token=2 * 30 * 3 * 64 * 4,
    activation_bytes_per_token=activation_bytes(
        hidden=576, intermediate=1536, attention=(9 + 2 * 3) * 64, item=4
    ),
    vocab_size=49_152,
)


def test_activation_bytes_of_a_token() -> None:
    # 4 x (6 x 576 + 3 x 1,536 + 15 x 64), by hand.
    assert SMALL.activation_bytes_per_token == 36_096


def test_batch_memory_is_that_of_tokens_logits_and_states() -> None:
    memory = ModelMemory(7, 100, 10, vocab_size=1000, state_bytes_per_row=5)
    assert memory.batch_bytes(rows=3, tokens=50) == 50 * 110 + 3 * (16_000 + 5)


@pytest.mark.parametrize(("device", "rows"), [("cpu", 64), ("cuda", 256)], ids=["cpu", "cuda"])
def test_with_enough_memory_the_row_count_is_the_useful_maximum(device: Device, rows: int) -> None:
    found = compute_budget(SMALL, free_bytes=80 * GB, fraction=0.9, device=device)
    assert found.rows == rows == USEFUL_ROWS[device]
    assert found.tokens > rows * 1000


MEMORIES = st.builds(
    ModelMemory,
    st.integers(0, GB),
    st.integers(0, 10**6),
    st.integers(0, 10**5),
    st.integers(2, 300_000),
    st.integers(0, 10**7),
)


@given(
    MEMORIES,
    st.integers(0, 100 * GB),
    st.floats(0.01, 1),
    st.sampled_from(["cpu", "cuda"]),
)
def test_a_budget_fits_exactly_the_tokens_it_allows(
    memory: ModelMemory, free: int, fraction: float, device: Device
) -> None:
    share = fraction if device == "cuda" else fraction * 0.75
    room = int(free * share) - memory.weight_bytes
    try:
        found = compute_budget(memory, free_bytes=free, fraction=fraction, device=device)
    except ResourceError:
        assert memory.batch_bytes(1, 256) > room
        return
    assert found.rows >= 1
    assert memory.batch_bytes(found.rows, found.tokens) <= room
    assert memory.batch_bytes(found.rows, found.tokens + 1) > room


def test_with_little_memory_there_are_fewer_rows() -> None:
    rows = [
        compute_budget(SMALL, free_bytes=int(gb * GB), fraction=0.9, device="cpu").rows
        for gb in (1, 1.5, 2, 4)
    ]
    assert rows == sorted(rows)
    assert rows[0] < rows[-1] == 64


def test_too_little_memory_is_an_error_with_numbers_and_a_hint() -> None:
    with pytest.raises(ResourceError) as caught:
        compute_budget(SMALL, free_bytes=600_000_000, fraction=0.9, device="cpu")
    for words in ("on cpu", "600 MB free", "405 MB are usable", "memory_fraction"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("batching", "expected"),
    [
        (Batching(), BatchLimits(64, 9000, "length")),
        (Batching(max_rows=8), BatchLimits(8, 9000, "length")),
        (Batching(max_tokens=100), BatchLimits(64, 100, "length")),
        (Batching(max_rows=8, max_tokens=100, sort="none"), BatchLimits(8, 100, "none")),
    ],
)
def test_numbers_of_the_job_take_precedence(batching: Batching, expected: BatchLimits) -> None:
    assert batch_limits(batching, Budget(64, 9000)) == expected


# Copies of the kernel's files, in a temporary folder.

MEMINFO = {"proc/meminfo": "MemTotal: 100 kB\nMemAvailable:    64000 kB\nHugePages_Total: 0\n"}
UNLIMITED_V1 = "9223372036854771712\n"


def group_v2(folder: str, limit: str, used: int, inactive: int = 0) -> dict[str, str]:
    base = f"sys/fs/cgroup/{folder}".rstrip("/")
    return {
        f"{base}/memory.max": f"{limit}\n",
        f"{base}/memory.current": f"{used}\n",
        f"{base}/memory.stat": f"anon 1\ninactive_file {inactive}\n",
    }


def group_v1(folder: str, limit: str, used: int, inactive: int = 0) -> dict[str, str]:
    base = f"sys/fs/cgroup/memory/{folder}".rstrip("/")
    return {
        f"{base}/memory.limit_in_bytes": f"{limit}\n",
        f"{base}/memory.usage_in_bytes": f"{used}\n",
        f"{base}/memory.stat": f"cache 1\ntotal_inactive_file {inactive}\n",
    }


def of_group(*lines: str) -> dict[str, str]:
    return {"proc/self/cgroup": "\n".join(lines) + "\n"}


AVAILABLE = 64_000 * 1024


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(MEMINFO, AVAILABLE, id="no control groups"),
        pytest.param(MEMINFO | of_group("0::/"), AVAILABLE, id="a group without files"),
        pytest.param(MEMINFO | of_group("0::/") | group_v2("", "max", 5), AVAILABLE, id="v2 without a limit"),
        pytest.param(MEMINFO | of_group("0::/") | group_v2("", "5000", 2000), 3000, id="v2"),
        pytest.param(MEMINFO | of_group("0::/") | group_v2("", "5000", 4000, 1500), 2500, id="v2, page cache counts as free"),
        pytest.param(MEMINFO | of_group("0::/a/b") | group_v2("a/b", "5000", 10) | group_v2("a", "900", 400), 500, id="v2, a group above is tighter"),
        pytest.param(MEMINFO | of_group("0::/a/b") | group_v2("a/b", "800", 10) | group_v2("a", "9000", 400), 790, id="v2, its own is tighter"),
        pytest.param(MEMINFO | of_group("0::/seen/from/the/host") | group_v2("", "5000", 1000), 4000, id="v2, the path of the host inside a container"),
        pytest.param(MEMINFO | of_group("4:memory:/") | group_v1("", UNLIMITED_V1.strip(), 5), AVAILABLE, id="v1 without a limit"),
        pytest.param(MEMINFO | of_group("5:cpu,memory:/x", "1:name=systemd:/") | group_v1("x", "7000", 6000, 500), 1500, id="v1"),
        pytest.param(MEMINFO | of_group("4:memory:/", "0::/") | group_v1("", "7000", 0) | group_v2("", "max", 0), 7000, id="both mounted"),
        pytest.param(MEMINFO | of_group("0::/") | group_v2("", "5000", 6000), 0, id="over the limit"),
        pytest.param(MEMINFO | of_group("0::/") | group_v2("", str(10**12), 0), AVAILABLE, id="a limit above the machine"),
    ],
)  # fmt: skip
def test_free_memory_is_the_minimum_of_machine_and_control_groups(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    assert free_host_memory(tmp_path) == expected


def test_without_proc_free_memory_is_the_physical_memory(tmp_path: Path) -> None:
    assert free_host_memory(tmp_path) > 100_000_000


def test_free_memory_of_this_machine_is_positive() -> None:
    assert 0 < free_host_memory() < 10**15
