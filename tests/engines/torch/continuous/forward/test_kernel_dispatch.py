"""Kernels compiled by numba: equal to float64 within rounding, and independent of other rows."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward import kernel_dispatch as compiled
from batchgen.engines.torch.continuous.forward.attention import (
    AttentionRule,
    LayerQkv,
    PartialAttention,
)
from batchgen.engines.torch.continuous.forward.kernel_dispatch import (
    CompiledNorm,
    DecodeLayout,
    kernel_attention,
    kernel_supports_attention,
)
from batchgen.engines.torch.continuous.forward.step_attention import StepAttention
from batchgen.engines.torch.continuous.kv_store import KVLayer, KVStore, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.step import build_step_batch
from batchgen.planning.sequences import Prefix, ScheduledSequence, Segment, Step, StepKind

pytestmark = pytest.mark.skipif(find_spec("numba") is None, reason="no numba for this Python")

LENGTHS = [1, 7, 8, 9, 16, 40, 33, 15]
SPANS = [(0, 0), (2, 23), (0, 0), (2, 23), (2, 23), (30, 31), (0, 0), (0, 64)]
HEADS, PAGE, ARENA = 2, 8, 64


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def case(group: int, width: int, high: int) -> tuple[LayerQkv, KVLayer, DecodeLayout]:
    rows = len(LENGTHS)
    q, k, v = drawn(rows, group * HEADS, width), drawn(rows, HEADS, width), drawn(rows, HEADS, high)
    new = LayerQkv(0, q, k, v, AttentionRule(0.3))
    held = [-(-length // PAGE) for length in LENGTHS]
    order = torch.randperm(sum(held), generator=torch.Generator().manual_seed(0)).split(held)
    pages = torch.nn.utils.rnn.pad_sequence(list(order), batch_first=True)
    layer = KVLayer.like(new.k, new.v, KVStoreSizes(sum(held), PAGE, ARENA), private_zeros)
    for tensor in (layer.keys, layer.values, layer.prefix_keys, layer.prefix_values):
        tensor.copy_(drawn(*tensor.shape))
    return new, layer, DecodeLayout(pages, torch.tensor(LENGTHS), torch.tensor(SPANS))


def copied(layer: KVLayer) -> KVLayer:
    return KVLayer(*(t.clone() for t in (layer.keys, layer.values, layer.prefix_keys, layer.prefix_values)))  # fmt: skip


def wanted(new: LayerQkv, layer: KVLayer, held: DecodeLayout, scale: float) -> PartialAttention:
    """Reference attention in float64, row by row, on the layer after the new tokens are stored."""
    values, mass = [], []
    for row, (length, (start, stop)) in enumerate(zip(LENGTHS, SPANS, strict=True)):
        own_keys, own_values = layer.read(held.pages[row], length)
        keys = torch.cat([layer.prefix_keys[:, start:stop], own_keys], dim=1).double()
        seen = torch.cat([layer.prefix_values[:, start:stop], own_values], dim=1).double()
        q = new.q[row].double().view(HEADS, -1, new.q.shape[2])
        scores = q @ keys.transpose(1, 2) * scale
        values.append((scores.softmax(-1) @ seen).flatten(0, 1))
        mass.append(scores.logsumexp(-1).flatten())
    return PartialAttention(torch.stack(values), torch.stack(mass))


@pytest.mark.parametrize(
    ("group", "width", "high"),
    [(1, 8, 8), (3, 64, 64), (4, 12, 20)],
    ids=["every head its own keys", "the demo model's", "values of another width"],
)
def test_attention_is_that_of_float64(group: int, width: int, high: int) -> None:
    assert compiled.attention_works(group, width, high)
    new, layer, held = case(group, width, high)
    before = copied(layer)
    found = kernel_attention(new, layer, held)
    for row, length in enumerate(LENGTHS):
        page, place = held.pages[row, (length - 1) // PAGE], (length - 1) % PAGE
        before.keys[page, :, :, place] = new.k[row]
        before.values[page, :, place] = new.v[row]
    assert torch.equal(layer.keys, before.keys)
    assert torch.equal(layer.values, before.values)
    oracle = wanted(new, before, held, 0.3)
    torch.testing.assert_close(found.values.double(), oracle.values, rtol=0, atol=2e-6)
    torch.testing.assert_close(found.mass.double(), oracle.mass, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("tokens", [21, 400], ids=["read by the kernel", "read by torch"])
def test_a_prefix_of_many_rows_is_read_once(tokens: int) -> None:
    prefix = Prefix(1, [0] * tokens, users=20, computed=tokens, arena_range=range(3, 3 + tokens))
    rows = [
        ScheduledSequence(n, [0] * (tokens + n + 1), tokens + n, 9, prefix=prefix)
        for n in range(20)
    ]
    for row in rows:
        row.cached = len(row.token_ids) - 1
        row.pages = list(range(3 * row.number, 3 * row.number + 3))
    step = Step(StepKind.DECODE, tuple(Segment(row, 1, 1) for row in rows))
    batch = build_step_batch(step, PAGE, torch.device("cpu"))
    assert [compiled.kernel_reads_prefix(reach) for reach in batch.reaches] == [tokens == 21]
    q, k, v = drawn(20, 6, 8), drawn(20, 2, 8), drawn(20, 2, 8)
    new = LayerQkv(0, q, k, v, AttentionRule(0.3))
    store = KVStore(KVStoreSizes(60, PAGE, 3 + tokens), private_zeros)
    layer = store.layer(0, new.k, new.v)
    for tensor in (layer.keys, layer.values, layer.prefix_keys, layer.prefix_values):
        tensor.copy_(drawn(*tensor.shape))
    found = StepAttention(batch, store)(new)
    for row in rows:
        own_keys, own_values = layer.read(torch.tensor(row.pages), row.number + 1)
        keys = torch.cat([layer.prefix_keys[:, 3:], own_keys], dim=1).double()
        values = torch.cat([layer.prefix_values[:, 3:], own_values], dim=1).double()
        q = new.q[row.number].double().view(2, 3, 8)
        oracle = ((q @ keys.transpose(1, 2) * 0.3).softmax(-1) @ values).flatten(0, 1)
        torch.testing.assert_close(found[row.number].double(), oracle, rtol=0, atol=2e-6)


def test_scores_far_apart_neither_overflow_nor_vanish() -> None:
    new, layer, held = case(1, 8, 8)
    new = replace(new, q=new.q * 300, rule=AttentionRule(1.0))
    found = kernel_attention(new, layer, held)
    oracle = wanted(new, layer, held, 1.0)
    torch.testing.assert_close(found.values.double(), oracle.values, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.mass.double(), oracle.mass, rtol=1e-5, atol=0)


def test_a_row_is_bit_identical_in_any_batch() -> None:
    new, layer, held = case(3, 64, 64)
    together = kernel_attention(new, layer, held)
    for row in range(len(LENGTHS)):
        one = slice(row, row + 1)
        alone = kernel_attention(
            replace(new, q=new.q[one], k=new.k[one], v=new.v[one]),
            layer,
            DecodeLayout(held.pages[one], held.lengths[one], held.prefixes[one]),
        )
        assert torch.equal(alone.values, together.values[one])
        assert torch.equal(alone.mass, together.mass[one])


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_nonfinite_values_affect_only_their_row(odd: float, where: str) -> None:
    new, layer, held = case(1, 8, 8)
    clean = kernel_attention(new, layer, held).values
    tensor = getattr(new, where).clone()
    tensor[3, 0, 1] = odd
    found = kernel_attention(replace(new, **{where: tensor}), layer, held).values
    oracle = wanted(replace(new, **{where: tensor}), layer, held, 0.3).values
    assert torch.equal(found.isfinite(), oracle.isfinite())
    others = [row for row in range(len(LENGTHS)) if row != 3]
    assert torch.equal(found[others], clean[others])


def test_memory_after_the_tokens_of_a_row_is_not_read() -> None:
    new, layer, held = case(1, 8, 8)
    clean = kernel_attention(new, layer, held).values
    for row, length in enumerate(LENGTHS):
        page, used = held.pages[row, (length - 1) // PAGE], (length - 1) % PAGE + 1
        layer.keys[page, :, :, used:] = torch.nan
        layer.values[page, :, used:] = 1e30
    assert torch.equal(kernel_attention(new, layer, held).values, clean)


@pytest.fixture
def one_thread() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


@pytest.mark.usefixtures("one_thread")
def test_other_kinds_of_attention_use_torch() -> None:
    new, layer, _ = case(1, 8, 8)
    assert kernel_supports_attention(new, layer)
    assert not kernel_supports_attention(replace(new, q=new.q.double()), layer)
    assert not kernel_supports_attention(replace(new, rule=AttentionRule(1.0, window=4)), layer)
    assert not kernel_supports_attention(replace(new, rule=AttentionRule(1.0, softcap=30.0)), layer)
    assert not compiled.attention_works(1, 6, 8)
    assert not compiled.attention_works(17, 8, 8)
    torch.set_num_threads(3)
    assert not kernel_supports_attention(new, layer)


@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("width", [32, 576, 577])
def test_norms_are_those_of_float64(rows: int, width: int) -> None:
    x, weight = drawn(rows, width) * 3, drawn(width)
    found = CompiledNorm(weight, 1e-5)(x)
    oracle = torch.nn.functional.rms_norm(x.double(), (width,), weight.double(), 1e-5)
    torch.testing.assert_close(found.double(), oracle, rtol=1e-5, atol=1e-6)
    assert torch.equal(CompiledNorm(weight, 1e-5)(x[-1:]), found[-1:])


def test_a_norm_of_nonfinite_values_is_not_finite() -> None:
    x = drawn(3, 32)
    x[1, 4] = torch.nan
    found = CompiledNorm(drawn(32), 1e-5)(x)
    assert found.isfinite().all(dim=1).tolist() == [True, False, True]


def printed(program: str, **environment: str) -> str:
    """The output of a program in a separate process."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from batchgen.engines.torch.continuous.forward import kernel_dispatch as compiled\n{program}",
        ],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return done.stdout.strip()


WORKS = "print(compiled.norm_works(), compiled.attention_works(1, 8, 8))"
JIT = "batchgen.engines.torch.continuous.forward.kernels.jit"
FACTS = "import torch; print(*compiled.kernel_facts(torch.ones(1)).values(), sep='|')"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.modules['numba'] = None", "numba is not installed"),
        ("import numba; numba.config.DISABLE_JIT = 1", "NUMBA_DISABLE_JIT is set"),
        (
            f"import sys; sys.modules[{JIT!r}] = None",
            f"ModuleNotFoundError: import of {JIT} halted; None in sys.modules",
        ),
        (
            "compiled._drawn = lambda *shape: torch.full(shape, torch.nan)",
            "its results differ from those of torch",
        ),
    ],
    ids=["not installed", "switched off", "a module of our own is missing", "wrong results"],
)
def test_torch_replaces_kernels_that_cannot_be_used_and_the_facts_have_the_reason(
    program: str, reason: str
) -> None:
    found = printed(f"import torch\n{program}\n{WORKS}\n{FACTS}").splitlines()
    assert found == ["False False", f"torch: {reason}|torch: {reason}"]


@pytest.mark.parametrize("broken", ["__init__.py", "extending.py"])
def test_torch_replaces_kernels_where_numba_is_broken(tmp_path: Path, broken: str) -> None:
    package = tmp_path / "numba"
    package.mkdir()
    (package / "__init__.py").write_text("class config: DISABLE_JIT = 0")
    (package / broken).write_text("raise ImportError('Numba needs an older NumPy')")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    works, facts = printed(f"{program}\n{WORKS}\n{FACTS}").splitlines()
    assert works == "False False"
    assert facts.startswith("torch: ImportError: ")


def test_the_facts_name_the_kernels_in_use() -> None:
    assert printed(f"{WORKS}\n{FACTS}").splitlines() == ["True True", "numba|numba"]
    double = "import torch; print(*compiled.kernel_facts(torch.ones(1).double()).values())"
    assert printed(f"{WORKS}\n{double}").splitlines() == ["True True", "torch torch"]


def test_each_kernel_is_cached_in_separate_files(tmp_path: Path) -> None:
    # Two processes that start at once could corrupt a cache that numba shares between kernels.
    submitted = "print(*(compiled.attention_works(1, 8, high) for high in (8, 12)))"
    assert printed(submitted, NUMBA_CACHE_DIR=str(tmp_path)) == "True True"
    for ending in ("nbi", "1.nbc"):
        assert len(list(tmp_path.rglob(f"*.{ending}"))) == 2


def test_a_broken_or_missing_cache_only_recompiles_kernels(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    submitted = "print(compiled.norm_works())"
    assert printed(submitted, NUMBA_CACHE_DIR=str(cache)) == "True"
    kept = list(cache.rglob("*.nb?"))
    assert len(kept) == 2
    for file in kept:
        file.write_bytes(file.read_bytes()[:100])
    assert printed(submitted, NUMBA_CACHE_DIR=str(cache)) == "True"
    assert printed(submitted, NUMBA_CACHE_DIR="/dev/null/nowhere") == "True"
